"""Mosaic slides: pools without common groups, exact outlines, and the study from end to end in small."""

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
import torch
import torchvision
from skimage.color import hed2rgb, rgb2hed

from pipelines import lung_mosaics
from pipelines.lung.drawing import stain
from pipelines.lung.lesions import draw_lesions
from pipelines.lung.pools import POOLS, read_pools
from pipelines.lung.results import draw_strip, rate_rows, table_rows
from pipelines.lung.slides import write_mosaics
from pipelines.lung.spec import CARCINOMAS, IMAGE_PX, NORMAL, MosaicSpec
from wsi_mil.bags import read_labels
from wsi_mil.config import load_config
from wsi_mil.errors import DataError
from wsi_mil.evaluation import read_annotations
from wsi_mil.io.json import read_json
from wsi_mil.io.tables import read_csv
from wsi_mil.slides import open_slide

ROOT = Path(__file__).parents[2]
COLOURS = {NORMAL: (230, 180, 210), CARCINOMAS[0]: (120, 60, 150), CARCINOMAS[1]: (90, 50, 140)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain pictures, a colour per class, in the archive's form: 12 groups of 3 images a class."""
    path = tmp_path_factory.mktemp("lung") / "lung_he.zip"
    rng = np.random.default_rng(0)
    rows = ["file,class,group"]
    with zipfile.ZipFile(path, "w") as files:
        group = 0
        for name, colour in COLOURS.items():
            for _ in range(12):
                for copy in range(3):
                    image = np.clip(
                        np.array(colour) + rng.normal(0, 6, (IMAGE_PX, IMAGE_PX, 3)), 0, 255
                    ).astype(np.uint8)
                    _, encoded = cv2.imencode(".jpg", image[:, :, ::-1])
                    files.writestr(f"{name}/{group}_{copy}.jpeg", encoded.tobytes())
                    rows.append(f"{name}/{group}_{copy}.jpeg,{name},{group}")
                group += 1
        files.writestr("index.csv", "\n".join(rows))
    return path


SMALL = MosaicSpec(
    slides={"train": 4, "val": 4, "test": 4},
    side=4,
    lesions=(1, 1),
    lesion_images=(1, 3),
    centres=2,
    centre_jitter=0.05,
)


@pytest.fixture(scope="module")
def mosaics(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mosaics")
    write_mosaics(archive, folder, SMALL)
    return folder


def test_no_group_is_in_two_parts(archive: Path) -> None:
    pools = read_pools(archive, np.random.default_rng(0))
    for name in COLOURS:
        groups = {part: {file.split("/")[1].split("_")[0] for file in pools[part][name]} for part in POOLS}
        assert sum(map(len, groups.values())) == 12
        assert not groups["train"] & groups["test"]
        assert not groups["val"] & (groups["train"] | groups["test"])
        assert sum(len(pools[part][name]) for part in POOLS) == 36
    assert read_pools(archive, np.random.default_rng(0)) == pools  # the seed decides
    with pytest.raises(DataError, match=r"no lung_he\.zip"):
        read_pools(ROOT / "README.md", np.random.default_rng(0))


def test_outlines_are_where_the_carcinoma_is(mosaics: Path) -> None:
    labels = read_labels(mosaics / "labels.csv")
    assert sorted(row.split for row in labels.rows.values()) == ["test"] * 4 + ["train"] * 4 + ["val"] * 4
    assert {row.centre for row in labels.rows.values() if row.split == "test"} == {"centre_1"}
    assert {row.centre for row in labels.rows.values() if row.split != "test"} == {"centre_0"}
    for slide_id, row in labels.rows.items():
        outline = mosaics / "annotations" / f"{slide_id}.xml"
        assert outline.exists() == bool(row.label)
        with open_slide(mosaics / "slides" / f"{slide_id}.tiff", slide_id=slide_id) as slide:
            info = slide.info
            assert (info.mpp_x, len(info.level_sizes_px)) == (
                pytest.approx(0.5),
                2 if info.width_px >= 1024 else 1,
            )
            pixels = slide.read_region(0, 0, 0, info.width_px, info.height_px).astype(int)
        dark = (pixels[:, :, 1] < 120).astype(np.uint8)
        if not row.label:
            assert dark.mean() < 0.001
            continue
        lesions = read_annotations(outline, slide_id, info)
        area = shapely.union_all([lesion.geometry for lesion in lesions])
        mask = np.zeros_like(dark)
        for polygon in shapely.get_parts(area):
            cv2.fillPoly(mask, [np.rint(np.array(polygon.exterior.coords)).astype(np.int32)], 1)
        overlap = (mask & dark).sum() / (mask | dark).sum()
        assert overlap > 0.97


def test_lesions_grow_by_sides_and_keep_apart() -> None:
    tissue = np.ones((12, 12), bool)
    spec = MosaicSpec(lesions=(3, 3), lesion_images=(2, 12))
    for seed in range(20):
        lesions = draw_lesions(tissue, spec, np.random.default_rng(seed))
        assert len(lesions) == 3
        together = np.zeros((12, 12), np.uint8)
        for lesion in lesions:
            assert 2 <= lesion.sum() <= 14  # a surrounded cell is filled
            assert cv2.connectedComponents(lesion.astype(np.uint8), connectivity=4)[0] == 2
            grown = cv2.dilate(lesion.astype(np.uint8), np.ones((3, 3), np.uint8))
            assert not (grown & together).any()
            together |= lesion.astype(np.uint8)


def test_stain_is_colour_deconvolution() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 240, (20, 30, 3)).astype(np.uint8)
    np.testing.assert_allclose(stain(pixels, (1, 1, 1)).astype(int), pixels, atol=1)
    gains = np.array([1.15, 0.9, 1.0])
    expected = 255 * hed2rgb(rgb2hed(pixels) * gains)  # scikit-image's own; it clips stains below 0
    inside = (rgb2hed(pixels) > 0).all(2) & (expected < 250).all(2) & (expected > 5).all(2)
    assert inside.sum() > 20
    np.testing.assert_allclose(stain(pixels, gains)[inside], expected[inside], atol=4)


def test_mosaics_are_made_once(archive: Path, mosaics: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in mosaics.rglob("*")}
    write_mosaics(archive, mosaics, SMALL)
    assert {p: p.stat().st_mtime_ns for p in mosaics.rglob("*")} == before
    write_mosaics(archive, tmp_path, SMALL)
    assert (tmp_path / "labels.csv").read_bytes() == (mosaics / "labels.csv").read_bytes()
    slides = sorted((mosaics / "slides").iterdir())
    assert all((tmp_path / "slides" / p.name).read_bytes() == p.read_bytes() for p in slides)


def test_the_study_runs_from_end_to_end(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    weights = torchvision.models.squeezenet1_0(weights=None).state_dict()
    with io.BytesIO() as buffer:
        np.savez(buffer, **{key: value.numpy() for key, value in weights.items()})
        (tmp_path / "net.npz").write_bytes(buffer.getvalue())
    monkeypatch.setattr(
        lung_mosaics, "FORMS", {"easy": lung_mosaics.Form(SMALL, {"mpp": 2.0, "size_px": 56})}
    )
    quick = (
        "train.epochs=2",
        "train.search=[0.001, 0.01]",
        "split.seeds=2",
        "evaluation.bootstrap=10",
        "heatmaps.overlay_px=200",
        "execution.workers=1",
    )
    config = load_config(
        ROOT / "configs" / "lung_mosaics.yaml", (f"run={tmp_path / 'run'}", *quick, "models={mi_net: {}}")
    )
    run = lung_mosaics.run_form(config, "easy", archive, tmp_path / "net.npz")
    rates = rate_rows(run, "easy", ["mi_net"])
    assert [row[:3] for row in rates] == [["easy", "mi_net", "0.001"], ["easy", "mi_net", "0.01"]]
    chosen = [read_csv(run.model("mi_net", seed) / "search.csv") for seed in range(2)]
    for rate, row in enumerate(rates):
        assert row[3] == f"{np.mean([float(seed[rate]['val_auc']) for seed in chosen]):.3f}"
        assert row[5] == f"{sum(int(seed[rate]['chosen']) for seed in chosen)} of 2"
    (row,) = table_rows(run, "easy", ["mi_net"])
    metrics = read_json(run.evaluation("mi_net") / "metrics.json")
    assert row[2].startswith(f"{metrics['slide']['auc']:.3f} (")
    assert metrics["froc"]["n_lesions"] >= 2
    assert (run.path / "report.html").exists()
    assert cv2.imread(str(draw_strip(run, ["mi_net"]))).shape[0] == 300
    assert "easy: evaluate took" in capsys.readouterr().out
