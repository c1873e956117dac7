"""Thresholds by brute force, models that round-trip and refuse what does not fit, detections by hand."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_mil.aggregators import build_aggregator
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores, SlideScoresHeader
from wsi_mil.contracts.tiles import ReadPlan, TileSpec, TileTable
from wsi_mil.encoders import EncoderSpec
from wsi_mil.errors import DataError, ModelError, StoreError
from wsi_mil.evaluation.detections import find_detections
from wsi_mil.io.files import digest_bytes
from wsi_mil.io.json import read_json, write_json
from wsi_mil.scoring import (
    Threshold,
    TrainedModel,
    choose_threshold,
    load_model,
    read_slide_scores,
    read_tile_scores,
    score_features,
    write_slide_scores,
    write_tile_scores,
)
from wsi_mil.scoring.card import TrainingRecord
from wsi_mil.scoring.files import tile_scores_header
from wsi_mil.tasks import Detection
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import Standardizer, TrainSpec


def features(encoder_digest: str = "enc", unreadable: int = 0, dim: int = 6) -> FeatureTable:
    values = np.random.default_rng(0).normal(size=(9, dim)).astype(np.float16)
    readable = np.arange(9) >= unreadable
    values[~readable] = 0
    coords = np.array([[x * 50, y * 50] for y in range(3) for x in range(3)], np.int32)
    digest = digest_bytes(values.tobytes(), readable.tobytes())
    return FeatureTable("s", "texture", encoder_digest, "tiles", 0.5, values, coords, readable, digest)


def model(name: str = "focus_mil", n_outputs: int = 1) -> TrainedModel:
    classes = ("normal", "tumor", "other")[: max(n_outputs, 2)]
    return TrainedModel(
        name="m",
        aggregator=build_aggregator(name, 6, n_outputs, 0, {}).eval(),
        standardizer=Standardizer(torch.full((6,), 0.5), torch.full((6,), 2.0)),
        task=Detection(classes),
        tissue=TissueSpec(),
        tiles=TileSpec(mpp=0.5, size_px=100),
        encoder=EncoderSpec(),
        encoder_digest="enc",
        threshold=Threshold(0.4, "youden", "val", "abc"),
        training=TrainingRecord(TrainSpec(aggregator=name)),
        digest="dig",
    )


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=25))
@settings(max_examples=200, deadline=None)
def test_no_other_threshold_separates_better(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([r[0] / 20 for r in rows])
    truth = np.array([r[1] for r in rows])
    found = choose_threshold(scores.tolist(), truth.astype(int).tolist())
    if truth.all() or not truth.any():
        assert found == 0.5
        return

    def youden(t: float) -> float:
        return float((scores[truth] >= t).mean() + (scores[~truth] < t).mean())

    assert youden(found) == pytest.approx(max(youden(t) for t in np.linspace(0, 1.01, 203)))
    assert found not in scores or found == 0  # nothing lies below a probability of 0


def test_a_threshold_chosen_on_the_scored_slides_is_refused() -> None:
    Threshold(0.5, "r", "val", "abc").refuse_if_chosen_on("other")
    with pytest.raises(DataError, match="chosen on the very slides"):
        Threshold(0.5, "r", "test", "abc").refuse_if_chosen_on("abc")


@pytest.mark.parametrize("name", ["focus_mil", "mi_net", "abmil_gated"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_model_folder_gives_the_same_scores(tmp_path: Path, name: str, n_outputs: int) -> None:
    original = model(name, n_outputs)
    original.save(tmp_path / "models" / "m" / "fold0", "inputs")
    loaded = load_model(tmp_path / "models" / "m")
    one, two = score_features(original, features()), score_features(loaded, features())
    np.testing.assert_array_equal(one.tile_scores, two.tile_scores)
    assert one.class_probabilities == two.class_probabilities
    assert len(one.class_probabilities) == max(n_outputs, 2)
    assert one.probability == pytest.approx(1 - one.class_probabilities[0])
    assert (loaded.threshold, loaded.tiles, loaded.class_names) == (
        original.threshold,
        original.tiles,
        original.class_names,
    )
    assert sorted(p.name for p in (tmp_path / "models" / "m" / "fold0").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]


def test_scores_see_standardised_features() -> None:
    m, table = model("mi_net"), features()
    with torch.inference_mode():
        x = (torch.from_numpy(table.features).float() - 0.5) / 2.0
        logits = m.aggregator.classifier(x)[:, 0]  # type: ignore[operator]
    found = score_features(m, table)
    np.testing.assert_allclose(found.tile_scores, logits.numpy(), rtol=1e-6)
    assert found.probability == pytest.approx(float(logits.max().sigmoid()), rel=1e-6)


def test_unreadable_tiles_have_no_score() -> None:
    found = score_features(model(), features(unreadable=2))
    assert np.flatnonzero(np.isnan(found.tile_scores)).tolist() == [0, 1]
    with pytest.raises(DataError, match="no readable tile"):
        score_features(model(), features(unreadable=9))


def test_features_of_another_encoder_are_refused() -> None:
    with pytest.raises(ModelError, match="texture features enc, slide 's' has texture features other"):
        score_features(model(), features("other"))
    with pytest.raises(ModelError, match="takes 6 features, slide 's' has 7"):
        score_features(model(), features(dim=7))
    with pytest.raises(ModelError, match=r"100 px at 0.5 µm/px, slide 's' has 100 px at 1"):
        model().check_tiles(TileSpec(mpp=1.0, size_px=100), "s")
    model().check_tiles(TileSpec(mpp=0.5, size_px=100, stride_px=50), "s")


def test_model_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model in"):
        load_model(tmp_path)
    model().save(tmp_path / "fold0", "x")
    shutil.copytree(tmp_path / "fold0", tmp_path / "fold1")
    with pytest.raises(ModelError, match="holds 2 folds: name one"):
        load_model(tmp_path)
    card = read_json(tmp_path / "fold1" / "model.json")
    write_json(tmp_path / "fold1" / "model.json", {**card, "format_version": 7})
    with pytest.raises(ModelError, match="format 7, this version reads 1 to 3"):
        load_model(tmp_path / "fold1")
    weights = tmp_path / "fold0" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(bytes(raw))
    with pytest.raises(ModelError, match=r"not the file that model\.json describes"):
        load_model(tmp_path / "fold0")
    weights.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match=r"not the file that model\.json describes"):
        load_model(tmp_path / "fold0")


def scores_of(values: list[float], kind: str = "logit") -> SlideScores:
    coords = np.array([[i * 100, 0] for i in range(len(values))], np.int32)
    return SlideScores("s", 0.7, (0.3, 0.7), np.array(values, np.float32), kind, coords, "t", "f", "m")


def test_tile_scores_read_back(tmp_path: Path) -> None:
    scores = scores_of([1.5, float("nan"), -2.0])
    write_tile_scores(tmp_path / "a" / "s.parquet", scores)
    again = read_tile_scores(tmp_path / "a" / "s.parquet")
    np.testing.assert_array_equal(again.tile_scores, scores.tile_scores)
    np.testing.assert_array_equal(again.coords, scores.coords)
    assert (again.score_kind, again.probability, again.model_digest) == ("logit", 0.7, "m")


def row_of(slide_id: str, label: int | None, probability: float) -> SlideScoreRow:
    return SlideScoreRow(
        slide_id, "p", 0, "test", label, probability, 0.4, probability >= 0.4, 3, "t", "f", "m"
    )


def test_slide_scores_read_back_and_nonsense_is_told(tmp_path: Path) -> None:
    rows = [row_of("a", None, 0.5), row_of("b", 1, 0.25)]
    write_slide_scores(tmp_path / "s.parquet", rows, SlideScoresHeader("m", "d", 2))
    found, header = read_slide_scores(tmp_path / "s.parquet")
    assert found == rows
    assert header == SlideScoresHeader("m", "d", 2)
    with pytest.raises(StoreError, match="expected tile scores"):
        read_tile_scores(tmp_path / "s.parquet")
    (tmp_path / "s.parquet").write_bytes(b"junk")
    with pytest.raises(StoreError, match="wsi-mil score"):
        read_slide_scores(tmp_path / "s.parquet")
    with pytest.raises(StoreError, match="no slide scores"):
        read_slide_scores(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("kind", "column", "version"),
    [("logit", "probability", 1), ("probability", "probability", 1), ("attention", "score01", 3)],
)
def test_a_tile_scores_file_calls_probability_only_what_is_one(
    tmp_path: Path, kind: str, column: str, version: int
) -> None:
    scores = scores_of([0.2, float("nan"), 0.6], kind)
    write_tile_scores(tmp_path / "s.parquet", scores)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column_names == ["x0_px", "y0_px", "score", column]
    np.testing.assert_array_equal(table[column].to_numpy(), scores.tile_scores01())
    assert json.loads(table.schema.metadata[b"wsi_mil"])["format_version"] == version
    assert read_tile_scores(tmp_path / "s.parquet").equals(scores)


@pytest.mark.parametrize("version", [1, 2])
def test_attention_that_an_earlier_version_wrote_is_scored_again(tmp_path: Path, version: int) -> None:
    """Format 1 called it `probability`; both lacked the slide's probability."""
    scores, path = scores_of([0.2, 0.6], "attention"), tmp_path / "s.parquet"
    write_tile_scores(path, scores)
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"wsi_mil"]) | {"format_version": version}
    del header["content_digest"], header["values_digest"]  # which it did not write either
    old = table.rename_columns(["x0_px", "y0_px", "score", "probability"])
    pq.write_table(old.replace_schema_metadata({b"wsi_mil": json.dumps(header).encode()}), path)
    with pytest.raises(StoreError, match=r"of an earlier version, .*: run `wsi-mil score` again"):
        read_tile_scores(path)
    assert tile_scores_header(path) is None, "so that the stage score makes it again"
    newer = old.replace_schema_metadata({b"wsi_mil": json.dumps(header | {"format_version": 5}).encode()})
    pq.write_table(newer, path)
    with pytest.raises(StoreError, match="of format 5, expected tile scores of format 1 or 2 or 3 or 4"):
        read_tile_scores(path)


def test_detections_by_hand() -> None:
    """Tiles of 100 px at 0.5 µm/px in a row, 50 µm apart: the best one silences its neighbours within 60
    µm."""
    scores = scores_of([0.2, 0.9, 0.8, 0.3, 0.6, 0.04, float("nan")], "probability")
    plan = ReadPlan(0, 1, 1, 100, 100, 100, 100)
    table = TileTable(
        "s",
        TileSpec(mpp=0.5, size_px=100),
        plan,
        scores.coords,
        np.ones(7, np.float32),
        (700, 100),
        (0.5, 0.5),
    )
    found = find_detections(scores, table, radius_um=60, min_probability=0.05)
    assert [(d.x0_px, d.y0_px, round(d.score01, 2)) for d in found] == [(150, 50, 0.9), (450, 50, 0.6)]
    wide = TileTable("s", table.spec, plan, scores.coords, table.tissue, (700, 100), (0.25, 0.5))
    assert len(find_detections(scores, wide, radius_um=60, min_probability=0.05)) == 2
    assert len(find_detections(scores, table, radius_um=1, min_probability=0.05)) == 5
    assert find_detections(scores, table, radius_um=60, min_probability=0.95) == []


def test_a_slide_scores_file_has_one_column_per_field_and_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_slide_scores(path, [row_of("a", 0, 0.5)], SlideScoresHeader("m", "d", 1))
    table = pq.read_table(path)
    assert table.column_names == [
        *("slide_id", "patient", "fold", "part", "label", "probability", "threshold", "predicted", "tiles"),
        *("tiles_digest", "features_digest", "model_digest"),
    ]
    header = {"kind": "slide scores", "format_version": 3, "model": "m", "split_digest": "d", "folds": 1}
    header |= {"task": "detection", "scheme": None, "second_kind": "", "not_learned": []}
    (written,) = (json.loads(text) for text in table.schema.metadata.values())
    assert [len(written.pop(key)) for key in ("content_digest", "values_digest")] == [16, 16]
    assert written == header
    changed = path.stat().st_mtime_ns
    write_slide_scores(path, [row_of("a", 0, 0.5)], SlideScoresHeader("m", "d", 1))
    assert path.stat().st_mtime_ns == changed
    pq.write_table(table.drop_columns(["threshold"]).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(StoreError, match=r"s\.parquet is damaged"):
        read_slide_scores(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("part", "held out", "part"), ("probability", 1.5, "probability"), ("threshold", math.nan, "threshold")]
    + [(name, -1, name) for name in ("fold", "tiles", "label")],
)
def test_a_slide_score_row_refuses_what_cannot_be(field: str, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(row_of("a", 1, 0.5), **{field: value})


def test_only_a_labelled_row_has_a_class() -> None:
    assert row_of("a", 2, 0.5).class_index == 2
    assert [row_of("a", label, 0.5).positive for label in (0, 1)] == [False, True]
    with pytest.raises(DataError, match="'a' has no label"):
        row_of("a", None, 0.5).positive  # noqa: B018
