"""One slide through the tile stage: which tiles, which files, when it is not done again; and what the stage
asks of workers."""

import json
import pickle
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from tests.stages import handmade
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import DataError, SlideError
from wsi_mil.execution.dask_backend import needs_gpu
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import extract, tile
from wsi_mil.stages.tile import TileJob, tile_one


def job(folder: Path, image: np.ndarray | None = None) -> TileJob:
    config = handmade.config(folder)
    source = handmade.source(folder / "slides", image=image)
    found = TileJob("s0", source, "auto", config.run, config.tissue, config.tiles, config.qupath)
    assert pickle.loads(pickle.dumps(found)) == found
    return found


def test_the_tiles_are_those_of_the_tissue(tmp_path: Path) -> None:
    found = tile_one(job(tmp_path))
    run = RunFolder(tmp_path / "run")
    table = run.store("s0").read_tiles()
    np.testing.assert_array_equal(table.coords, handmade.table().coords)
    assert (found.slide_id, found.stage, found.status, found.reused) == ("s0", "tile", "done", False)
    assert found.counts["tiles"] == 24
    area = (handmade.RIGHT - handmade.LEFT) * (handmade.BOTTOM - handmade.TOP)
    assert found.counts["tissue_um2"] == pytest.approx(area, rel=0.03)
    assert found.digest == table.digest()
    assert run.tissue("s0").exists()
    assert run.preview("s0").read_bytes().startswith(b"\xff\xd8")  # JPEG


def test_a_second_time_nothing_is_written(tmp_path: Path) -> None:
    work = job(tmp_path)
    first = tile_one(work)
    before = {p: p.stat().st_mtime_ns for p in work.run.rglob("*") if p.is_file()}
    again = tile_one(work)
    assert again.reused
    assert (again.counts, again.digest) == (first.counts, first.digest)
    assert {p: p.stat().st_mtime_ns for p in work.run.rglob("*") if p.is_file()} == before


def test_other_tiles_or_another_file_are_made_again(tmp_path: Path) -> None:
    work = job(tmp_path)
    tile_one(work)
    larger = tile_one(replace(work, tiles=TileSpec(mpp=1.0, size_px=128)))
    assert not larger.reused
    assert larger.counts["tiles"] < 24
    handmade.write_slide(work.source.path, handmade.pixels(seed=1))  # type: ignore[arg-type]
    assert not tile_one(replace(work, tiles=TileSpec(mpp=1.0, size_px=128))).reused


@pytest.mark.parametrize("name", ["s0", "Lunge\u0301"])
def test_the_outline_that_a_user_drew_is_used_and_kept(tmp_path: Path, name: str) -> None:
    """Also where its name on disk has another Unicode form than the slide id."""
    work = replace(job(tmp_path), slide_id=unicodedata.normalize("NFC", name))
    tile_one(work)
    written = RunFolder(work.run).tissue(work.slide_id)
    outline = written.rename(written.with_name(f"{name}.geojson"))
    assert RunFolder(work.run).tissue(work.slide_id) == outline
    value = json.loads(outline.read_text())
    ring = [[192, 64], [384, 64], [384, 192], [192, 192], [192, 64]]
    drawn = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    outline.write_text(json.dumps({**value, "features": [drawn]}))
    edited = outline.read_bytes()
    found = tile_one(work)
    table = RunFolder(work.run).store(work.slide_id).read_tiles()
    assert not found.reused
    assert table.tissue_source == "user"
    assert table.coords.tolist() == [[x, y] for y in (64, 128) for x in (192, 256, 320)]
    assert outline.read_bytes() == edited


def test_glass_without_tissue_is_empty_with_the_reason(tmp_path: Path) -> None:
    found = tile_one(job(tmp_path, handmade.pixels(tissue=False)))
    assert (found.status, found.counts["tiles"]) == ("empty", 0)
    seen = "saturation 0 (0 to 0), brightness 243 (243 to 243), of 255"
    assert found.reason == f"no tissue: threshold: saturation above 20 of 255; {seen}"


def test_tissue_that_fills_no_tile_is_empty_with_the_reason(tmp_path: Path) -> None:
    found = tile_one(replace(job(tmp_path), tiles=TileSpec(mpp=1.0, size_px=448, min_tissue_fraction=1.0)))
    assert found.status == "empty"
    assert found.reason == "no tile with enough tissue: threshold: saturation above 20 of 255"


def test_a_slide_that_cannot_be_opened_raises(tmp_path: Path) -> None:
    work = job(tmp_path)
    assert isinstance(work.source.path, Path)
    work.source.path.write_bytes(b"not a slide")
    with pytest.raises(SlideError, match="s0"):
        tile_one(work)


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The jobs that the tile and the extract stage hand to `map_slides`, which does none of them."""
    jobs: list[Any] = []

    def record(function: Callable[..., Outcome], given: Sequence[Any], **_: object) -> Iterator[Outcome]:
        jobs.extend(given)
        return iter(())

    monkeypatch.setattr(tile, "map_slides", record)
    monkeypatch.setattr(extract, "map_slides", record)
    return jobs


GPU_CLUSTER = {"backend": "dask", "cluster": {"kind": "slurm", "gpus": 1}}


def test_the_tile_stage_asks_for_no_gpu_where_extraction_does(tmp_path: Path, mapped: list[Any]) -> None:
    """On a cluster whose workers have GPUs, tiling runs on any worker and extraction only on those with a
    GPU."""
    sources = (handmade.source(tmp_path / "slides"),)
    context = handmade.context(tmp_path, sources, execution=GPU_CLUSTER)
    handmade.store_tiles(context.run)
    tile.run(context)
    assert [type(job) for job in mapped] == [TileJob]
    assert not needs_gpu(mapped[0])
    mapped.clear()
    extract.run(context)
    assert [job.slide_id for job in mapped] == ["s0"]
    assert needs_gpu(mapped[0])


def test_imported_features_bring_their_own_tiles(tmp_path: Path, mapped: list[Any]) -> None:
    context = handmade.context(
        tmp_path, (handmade.source(tmp_path / "slides"),), encoder={"name": "imported:uni"}
    )
    assert tile.run(context) == 0
    assert mapped == []


def test_an_outline_that_was_edited_by_hand_is_noted(tmp_path: Path) -> None:
    work = job(tmp_path)
    assert tile_one(work).reason.startswith("tissue by ")
    path = RunFolder(work.run).tissue(work.slide_id)
    value = json.loads(path.read_text())
    (kept, *_) = value["features"]
    boxes = [shapely.box(0, 0, 200, 200), shapely.box(300, 300, 600, 600)]
    value["features"] = [{**kept, "geometry": json.loads(shapely.to_geojson(box))} for box in boxes]
    value["features"].append({**value["features"][0], "properties": {"classification": {"name": "Ignore*"}}})
    path.write_text(json.dumps(value))
    edited = tile_one(work)
    assert edited.reason == "tissue outline edited by hand: 2 outlines"
    assert not edited.reused
    assert edited.counts["tissue_um2"] < 300 * 300 * 4
    path.write_text("{")
    with pytest.raises(DataError) as caught:
        tile_one(work)
    assert str(path) in str(caught.value)
    assert "restore the file, or delete it and run `wsi-mil tile`" in str(caught.value)
    path.unlink()
    assert tile_one(work).reason.startswith("tissue by ")
