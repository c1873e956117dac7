"""The heatmaps of single classes, from scores made by hand: subtypes, and detection with several classes."""

import gzip
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.stages import handmade
from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores, SlideScoresHeader
from wsi_mil.heatmaps.classes import mapped_classes
from wsi_mil.report.model_parts import heatmaps
from wsi_mil.report.source import ReportSource
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import write_slide_scores, write_tile_scores
from wsi_mil.stages.heatmap import draw_model

SUBTYPES = LabelScheme(("luad", "lusc / sq"), (), (), "task classification has no normal class")
CANCERS = LabelScheme(("normal", "luad", "lusc / sq"), ("luad", "lusc / sq"), ("normal",), "by known words")
LUAD = np.full(24, 0.25, np.float32)
LUAD[[0, 1, 6]] = 0.875
"""Three tiles of the upper left corner are of class luad, the others of the other class."""


def subtype_scores() -> SlideScores:
    scores = handmade.scores(np.linspace(-1, 1, 24), kind="value")
    return replace(
        scores,
        probability=math.nan,
        class_probabilities=(0.375, 0.625),
        prediction=1.0,
        class_names=SUBTYPES.class_names,
        tile_class_probabilities=np.stack([LUAD, 1 - LUAD], 1),
    )


def cancer_scores() -> SlideScores:
    return replace(
        handmade.scores(LUAD),
        class_probabilities=(0.125, 0.25, 0.625),
        class_names=CANCERS.class_names,
        tile_class_probabilities=np.stack([(1 - LUAD) / 2, LUAD, (1 - LUAD) / 2], 1),
    )


def subtype_row() -> SlideScoreRow:
    row = handmade.score_row()
    number = {"probability": math.nan, "threshold": math.nan, "predicted": False, "prediction": 1.0}
    return replace(row, **number, class_probabilities=(0.375, 0.625), target=(1.0,))


def drawn(folder: Path, scores: SlideScores, row: SlideScoreRow, scheme: LabelScheme, task: str) -> RunFolder:
    context = handmade.context(folder, (handmade.source(folder / "slides"),))
    run = context.run
    handmade.store_tiles(run)
    write_tile_scores(run.tile_scores("m", "s0"), scores)
    write_slide_scores(run.slide_scores("m"), [row], SlideScoresHeader("m", "d", 1, task, scheme))
    assert draw_model(context, "m") == 1
    assert draw_model(context, "m") == 0
    return run


def objects_of(run: RunFolder) -> list[dict[str, Any]]:
    with gzip.open(run.heatmap("m", "s0", "geojson.gz")) as file:
        return list(json.load(file)["features"])


def names_of(objects: list[dict[str, Any]], kind: str) -> Counter[str]:
    found = [one["properties"] for one in objects if one["properties"]["objectType"] == kind]
    return Counter(one["classification"]["name"] for one in found)


def test_subtypes_have_a_map_each_with_the_probability_of_each_tile(tmp_path: Path) -> None:
    run = drawn(tmp_path, subtype_scores(), subtype_row(), SUBTYPES, "classification")
    for class_name, values in zip(SUBTYPES.class_names, (LUAD, 1 - LUAD), strict=True):
        pixels = tifffile.imread(run.class_heatmap("m", class_name, "s0", "ome.tif"))
        per_tile = handmade.SIZE // 16  # four raster pixels along the side of a tile
        left, top = handmade.LEFT // 16, handmade.TOP // 16
        for number, value in enumerate(values):
            x, y = left + number % 6 * per_tile, top + number // 6 * per_tile
            assert (pixels[y : y + per_tile, x : x + per_tile] == 1 + round(254 * float(value))).all()
        assert run.class_heatmap("m", class_name, "s0", "png").stat().st_size > 1000
    folders = {path.name for path in (run.path / "class_heatmaps" / "m").iterdir()}
    assert folders == {"luad", "lusc %2F sq"}  # no class name leaves its folder


def test_subtypes_are_the_classes_of_tiles_and_regions_in_qupath(tmp_path: Path) -> None:
    objects = objects_of(drawn(tmp_path, subtype_scores(), subtype_row(), SUBTYPES, "classification"))
    assert names_of(objects, "tile") == {"luad": 3, "lusc / sq": 21}
    assert names_of(objects, "annotation") == {"luad": 1, "lusc / sq": 1}
    [region] = [
        one
        for one in objects
        if one["properties"].get("name") and one["properties"]["classification"]["name"] == "luad"
    ]
    assert region["properties"]["measurements"]["area_mm2"] == pytest.approx(3 * (handmade.SIZE / 1000) ** 2)
    tile = next(one for one in objects if one["properties"]["objectType"] == "tile")
    measured = tile["properties"]["measurements"]
    assert (measured["p_luad"], measured["p_lusc / sq"]) == (0.875, 0.125)
    assert len({one["id"] for one in objects}) == len(objects)


def test_detection_with_two_cancers_keeps_its_tumour_map_and_gets_one_of_each(tmp_path: Path) -> None:
    row = replace(handmade.score_row(), class_probabilities=(0.125, 0.25, 0.625))
    run = drawn(tmp_path, cancer_scores(), row, CANCERS, "detection")
    objects = objects_of(run)
    assert names_of(objects, "tile") == {"Tumor": 3, "Other": 21}
    assert names_of(objects, "annotation") == {"Tumor": 1}
    found = {path.name for path in (run.path / "class_heatmaps" / "m").iterdir()}
    assert found == {"luad", "lusc %2F sq"}
    assert run.heatmap("m", "s0", "png").exists()


def test_a_class_map_that_is_gone_is_drawn_again(tmp_path: Path) -> None:
    run = drawn(tmp_path, subtype_scores(), subtype_row(), SUBTYPES, "classification")
    run.class_heatmap("m", "luad", "s0", "png").unlink()
    context = handmade.context(tmp_path, (handmade.source(tmp_path / "slides"),))
    assert draw_model(context, "m") == 1
    assert run.class_heatmap("m", "luad", "s0", "png").exists()


def test_maps_of_classes_that_are_no_more_are_removed(tmp_path: Path) -> None:
    run = drawn(tmp_path, subtype_scores(), subtype_row(), SUBTYPES, "classification")
    old = run.class_heatmap("m", "large cell", "s0", "png")
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    draw_model(handmade.context(tmp_path, (handmade.source(tmp_path / "slides"),)), "m")
    assert not old.parent.exists()
    assert run.class_heatmap("m", "luad", "s0", "png").exists()


def test_the_report_shows_a_map_of_each_class_and_the_name_of_the_predicted_one(tmp_path: Path) -> None:
    """Also without a table of labels, as in a folder of predictions."""
    run = drawn(tmp_path, subtype_scores(), subtype_row(), SUBTYPES, "classification")
    content = heatmaps.read(ReportSource(run, (), "auto", None, ("m",)), "m")
    assert content is not None
    html = content.render()
    assert 'alt="heatmap of class luad of s0"' in html
    assert 'alt="heatmap of class lusc / sq of s0"' in html
    assert 'alt="heatmap of s0"' not in html
    assert "prediction\nlusc / sq" in html


def test_which_classes_are_drawn() -> None:
    two = LabelScheme(("normal", "cancer"), ("cancer",), ("normal",), "by known words")
    assert mapped_classes(None) == mapped_classes(two) == ()
    assert mapped_classes(SUBTYPES) == SUBTYPES.class_names
    assert mapped_classes(CANCERS) == CANCERS.positive
