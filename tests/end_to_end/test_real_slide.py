"""Real H&E through the whole path: check, tile, extract, score with a model of synthetic slides, heatmap,
GeoJSON."""

import csv
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pytest
import shapely

from wsi_mil.cli import main
from wsi_mil.config.loading import parse_config
from wsi_mil.errors import EncoderError, ModelError
from wsi_mil.io.json import read_json, write_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import predict_slides, run_pipeline


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, quick_config: dict[str, Any]) -> Path:
    run = tmp_path_factory.mktemp("trained") / "r"
    run_pipeline(parse_config({**quick_config, "run": str(run), "models": {"mi_net": {"epochs": 6}}}))
    return run / "models" / "mi_net"


def test_the_real_slide_from_check_to_geojson(
    real_slide: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(real_slide), "--tile-mpp", "1.0", "--tile-px", "64"])
    assert stop.value.code == 0
    line = capsys.readouterr().out.splitlines()[1]
    for part in ("2220x2967", "0.499", "aperio (jpeg_tiles)", "openslide.mpp"):
        assert part in line
    predicted = int(capsys.readouterr().out or line.split("(jpeg_tiles)")[1].split()[0])

    out = tmp_path / "out"
    summary = predict_slides(model_folder, real_slide, out, not_learned=True)
    assert not summary.problems
    with (out / "predictions.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["slide"] for row in rows] == ["CMU-1-Small-Region"]
    assert 0 <= float(rows[0]["probability"]) <= 1
    tiles = RunFolder(out).store("CMU-1-Small-Region").read_tiles()
    assert int(rows[0]["tiles"]) == len(tiles) == predicted

    picture = cv2.imread(str(out / "heatmaps" / "mi_net" / "CMU-1-Small-Region.png"))
    assert picture is not None
    assert picture.shape[0] > picture.shape[1]  # W != H: the slide is upright, and so is its picture
    frame = geopandas.read_file(f"/vsigzip/{out / 'heatmaps' / 'mi_net' / 'CMU-1-Small-Region.geojson.gz'}")
    boxes = frame[frame["objectType"] == "tile"].geometry.values
    assert len(boxes) == len(tiles)
    extent = shapely.total_bounds(boxes)
    assert extent[2] <= 2220
    assert extent[3] <= 2967
    assert extent[3] > 2220, "tiles reach further down than the slide is wide"
    corners = {(int(b[0]), int(b[1])) for b in shapely.bounds(boxes)}
    assert corners == {(int(x), int(y)) for x, y in tiles.coords}
    assert not any(predict_slides(model_folder, real_slide, out, not_learned=True).work.values())


def test_models_that_do_not_fit_are_errors(model_folder: Path, cohort: Path, tmp_path: Path) -> None:
    slides = cohort / "slides" / "slide_000.tiff"
    fold = model_folder / "fold0"
    card = read_json(fold / "model.json")
    copy = tmp_path / "m"
    copy.mkdir()
    (copy / "model.safetensors").write_bytes((fold / "model.safetensors").read_bytes())
    write_json(copy / "model.json", {**card, "encoder_digest": "another"})
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(copy), str(slides), "--out", str(tmp_path / "o"), "--not-learned"])
    assert stop.value.code == 3
    reasons = (tmp_path / "o" / "outcomes.csv").read_text()
    assert "was trained on texture features another" in reasons
    write_json(
        copy / "model.json",
        {**card, "encoder": {**card["encoder"], "name": "timm:resnet10t", "weights": "/gone.pth"}},
    )
    with pytest.raises(EncoderError, match=r"no checkpoint at /gone\.pth"):
        predict_slides(copy, slides, tmp_path / "o2", not_learned=True)
    with pytest.raises(ModelError, match="no model in"):
        predict_slides(tmp_path / "nothing", slides, tmp_path / "o3")


def test_the_overlay_lies_on_the_tissue(real_slide: Path, model_folder: Path, tmp_path: Path) -> None:
    """Tiles that were kept are darker than the glass around them, on the picture as on the slide."""
    from wsi_mil.slides import open_slide

    predict_slides(model_folder, real_slide, tmp_path / "out", not_learned=True)
    tiles = RunFolder(tmp_path / "out").store("CMU-1-Small-Region").read_tiles()
    with open_slide(real_slide) as slide:
        image = slide.read_region(0, 0, 0, slide.info.width_px, slide.info.height_px).mean(axis=2)
    kept = np.zeros(image.shape, bool)
    size = round(tiles.plan.tile_width0_px)
    for x, y in tiles.coords:
        kept[y : y + size, x : x + size] = True
    assert image[kept].mean() < image[~kept].mean() - 15
