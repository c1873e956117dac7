"""One slide through the heatmap stage, from scores made by hand: what the files show, and when they are drawn
again."""

import gzip
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.stages import handmade
from wsi_mil.contracts.scores import SlideScoresHeader
from wsi_mil.errors import DataError, ModelError
from wsi_mil.execution.dask_backend import needs_gpu
from wsi_mil.heatmaps.refined import RefinedMaps, write_refined
from wsi_mil.heatmaps.spec import HeatmapSpec
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import write_slide_scores, write_tile_scores
from wsi_mil.stages.heatmap import _read, draw_model, heatmap_one
from wsi_mil.stages.heatmap_job import HeatmapJob

VALUES = np.full(24, 0.1, np.float32)
VALUES[[8, 9]] = 0.9, 0.8
"""Tiles 2 and 3 of the second row are above the threshold of 0.5."""


def job(folder: Path, values: np.ndarray = VALUES, **spec: Any) -> HeatmapJob:
    config = handmade.config(folder)
    run = RunFolder(config.run)
    handmade.store_tiles(run)
    write_tile_scores(run.tile_scores("m", "s0"), handmade.scores(values))
    heatmaps = HeatmapSpec(overlay_px=200, objects=("contours", "tiles", "detections"), **spec)
    found = HeatmapJob(
        slide_id="s0",
        run=run.path,
        name="m",
        row=handmade.score_row(),
        source=handmade.source(folder / "slides"),
        reader="auto",
        spec=heatmaps,
        evaluation=config.evaluation,
        qupath=config.qupath,
        classes=(),
        drawn_from=None,
    )
    assert pickle.loads(pickle.dumps(found)) == found
    return found


def objects_of(work: HeatmapJob) -> list[dict[str, Any]]:
    with gzip.open(RunFolder(work.run).heatmap("m", "s0", "geojson.gz")) as file:
        return list(json.load(file)["features"])


def test_the_pyramid_has_the_probability_of_each_tile_in_its_place(tmp_path: Path) -> None:
    work = job(tmp_path)
    found = heatmap_one(work)
    assert (found.stage, found.status, found.reused) == ("heatmap m", "done", False)
    picture = tifffile.imread(RunFolder(work.run).heatmap("m", "s0", "ome.tif"), level=0).astype(float)
    rows, columns = handmade.HEIGHT // 64, handmade.WIDTH // 64
    assert picture.shape[0] / picture.shape[1] == pytest.approx(rows / columns)
    side = picture.shape[0] / rows

    def shown(column: int, row: int) -> float:
        return float(picture[int((row + 0.5) * side), int((column + 0.5) * side)])

    hot, cold, outside = shown(4, 2), shown(2, 1), shown(0, 0)  # tile 8: column 4, row 2 of the slide
    assert hot == pytest.approx(9 * cold, rel=0.06)
    assert hot == pytest.approx(shown(5, 2) * 9 / 8, rel=0.06)
    assert outside < cold


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        ("probability", "tile probability"),
        ("attention", "attention / largest of the slide x its probability"),
    ],
)
def test_the_colour_bar_of_a_refined_map_names_the_score_of_the_other_tiles(
    tmp_path: Path, kind: str, label: str
) -> None:
    work = job(tmp_path)
    run, table = RunFolder(work.run), handmade.table()
    write_tile_scores(run.tile_scores("m", "s0"), handmade.scores(VALUES, kind=kind))
    maps = RefinedMaps(
        "s0", np.array([8], np.int32), np.full((1, 4, 4), 255, np.uint8), table.digest(), "model digest", "r"
    )
    write_refined(run.refined("m", "s0"), maps)
    found = _read(run, "m", "s0", 0.5, work.spec, refined=True)
    assert found.picture_label == f"{label}; refined in suspicious tiles"
    assert float(np.nanmax(found.picture.values)) == 1.0


def test_contours_tiles_and_detections_are_those_above_the_threshold(tmp_path: Path) -> None:
    work = job(tmp_path)
    found = heatmap_one(work)
    objects = objects_of(work)
    assert found.counts["objects"] == len(objects)
    annotations = [one for one in objects if one["properties"]["objectType"] == "annotation"]
    corners = np.array(
        [
            point
            for one in annotations
            if one["geometry"]["type"] == "Polygon"
            for point in one["geometry"]["coordinates"][0]
        ]
    )
    left, top = corners.min(0)
    right, bottom = corners.max(0)
    assert (left, top, right, bottom) == pytest.approx((256, 128, 384, 192), abs=1)


def test_a_second_time_nothing_is_drawn(tmp_path: Path) -> None:
    work = job(tmp_path)
    first = heatmap_one(work)
    again = heatmap_one(replace(work, drawn_from=first.digest))
    assert again.reused
    assert again.digest == first.digest


@pytest.mark.parametrize(
    "changed",
    [
        lambda work: replace(work, row=replace(work.row, threshold=0.3)),
        lambda work: replace(work, row=replace(work.row, model_digest="another")),
        lambda work: replace(work, row=replace(work.row, features_digest="another")),
        lambda work: replace(work, row=replace(work.row, tiles_digest="another")),
        lambda work: replace(work, spec=work.spec.model_copy(update={"overlay_px": 210})),
        lambda work: replace(work, qupath=work.qupath.model_copy(update={"version": "0.3"})),
        lambda work: replace(work, evaluation=work.evaluation.model_copy(update={"min_probability": 0.2})),
    ],
)
def test_whatever_the_files_show_is_in_the_digest(
    tmp_path: Path, changed: Callable[[HeatmapJob], HeatmapJob]
) -> None:
    work = job(tmp_path)
    assert changed(work).digest(None) != work.digest(None)
    assert work.digest("a refiner") != work.digest(None)


def test_settings_of_detections_count_only_where_they_are_drawn(tmp_path: Path) -> None:
    work = replace(job(tmp_path), spec=HeatmapSpec(objects=("contours",)))
    other = replace(work, evaluation=work.evaluation.model_copy(update={"min_probability": 0.2}))
    assert other.digest(None) == work.digest(None)


def test_scores_of_other_tiles_are_refused(tmp_path: Path) -> None:
    work = job(tmp_path)
    other = replace(handmade.scores(VALUES), tiles_digest="another")
    write_tile_scores(RunFolder(work.run).tile_scores("m", "s0"), other)
    with pytest.raises(ModelError, match=r"slide 's0' were made from tile table another.*wsi-mil score"):
        heatmap_one(work)


def test_a_slide_without_file_is_drawn_on_white(tmp_path: Path) -> None:
    work = job(tmp_path)
    work = replace(work, source=replace(work.source, path=None))
    assert heatmap_one(work).status == "done"


def test_the_stage_draws_the_parts_that_are_asked_for_and_needs_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job(tmp_path)
    run = RunFolder(work.run)
    handmade.store_tiles(run, "s1")
    rows = [handmade.score_row("s0"), handmade.score_row("s1", part="train")]
    write_slide_scores(run.slide_scores("m"), rows, SlideScoresHeader("m", "", 1))
    jobs: list[HeatmapJob] = []

    def record(function: object, given: list[HeatmapJob], **_: object) -> Any:
        jobs.extend(given)
        return iter(())

    monkeypatch.setattr("wsi_mil.stages.heatmap.map_slides", record)
    sources = (work.source, handmade.source(tmp_path / "slides", "s1"))
    context = handmade.context(tmp_path, sources, heatmaps={"objects": ["contours"], "parts": ["test"]})
    assert draw_model(context, "m") == 0
    assert [one.slide_id for one in jobs] == ["s0"]
    assert not needs_gpu(jobs[0])
    outlined = handmade.context(tmp_path, sources, heatmaps={"objects": ["tissue"], "parts": ["test"]})
    with pytest.raises(DataError, match=r"slide 's0' has no outline at .*: leave out tissue"):
        draw_model(outlined, "m")
