"""Tile scores of methods that have two: in records, in files, and when files of earlier versions are made
again."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.scoring.test_predictions import TABLE
from tests.scoring.test_predictions import model as model_of
from tests.scoring.test_scoring import features, model, scores_of
from wsi_mil.bags import load_bag
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.scores import SlideScores, SlideScoresHeader
from wsi_mil.errors import StoreError
from wsi_mil.scoring import read_slide_scores, score_features, write_slide_scores, write_tile_scores
from wsi_mil.scoring.files import read_tile_scores, tile_scores_header
from wsi_mil.tasks.kinds.classification import Classification


def two_scores() -> SlideScores:
    """Three tiles, the last one unreadable; the slide's probability is 0.7."""
    one = scores_of([0.2, 0.6, float("nan")], "attention")
    logits = np.array([2.0, -2.0, np.nan], np.float32)
    return SlideScores(**{**vars(one), "second_scores": logits, "second_kind": "logit"})


def test_both_columns_are_in_the_file_and_named_by_what_they_are(tmp_path: Path) -> None:
    scores, path = two_scores(), tmp_path / "s.parquet"
    write_tile_scores(path, scores)
    table = pq.read_table(path)
    assert table.column_names == ["x0_px", "y0_px", "score", "score01", "score_logit", "probability"]
    np.testing.assert_allclose(table["score01"].to_numpy(), [0.7 * 0.2 / 0.6, 0.7, np.nan], rtol=1e-6)
    np.testing.assert_allclose(table["probability"].to_numpy(), [0.880797, 0.119203, np.nan], rtol=1e-5)
    header = json.loads(table.schema.metadata[b"wsi_mil"])
    assert (header["format_version"], header["score_kind"], header["second_kind"]) == (
        4,
        "attention",
        "logit",
    )
    assert read_tile_scores(path).equals(scores)


def test_a_file_with_two_scores_must_say_so(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_tile_scores(path, two_scores())
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"wsi_mil"])
    del header["second_kind"], header["content_digest"]
    pq.write_table(table.replace_schema_metadata({b"wsi_mil": json.dumps(header).encode()}), path)
    with pytest.raises(StoreError, match="run `wsi-mil score` again"):
        read_tile_scores(path)


def test_the_second_score_takes_the_place_of_the_first() -> None:
    scores = two_scores()
    second = scores.second
    assert second is not None
    assert second.score_kind == "logit"
    assert second.tile_scores01()[:2] == pytest.approx([0.880797, 0.119203], rel=1e-5)
    assert second.called_tiles(0.5).tolist() == [True, False, False]
    assert second.second is not None
    assert second.second.equals(scores)
    assert scores.of_kind("logit").equals(second)
    assert scores.of_kind("attention") is scores
    assert scores.of_kind("probability") is scores, "the main one where there is none of this kind"
    assert scores_of([1.0]).second is None


@pytest.mark.parametrize(
    ("name", "n_outputs", "kinds"),
    [
        ("loss_attention", 1, ("attention", "logit")),
        ("clam_sb", 2, ("attention", "logit")),
        ("dsmil", 1, ("attention", "logit")),
        ("dtfd", 2, ("probability", "attention")),
        ("abmil", 1, ("attention", "")),
        ("focus_mil", 1, ("logit", "")),
    ],
)
def test_scoring_keeps_what_the_aggregator_gives(name: str, n_outputs: int, kinds: tuple[str, str]) -> None:
    one = model(name, n_outputs)
    table = features(unreadable=2)
    found = score_features(one, table)
    assert (found.score_kind, found.second_kind) == kinds == (found.score_kind, one.second_kind)
    if not kinds[1]:
        assert found.second_scores is None
        return
    with torch.inference_mode():
        output = one.aggregator(PackedBags.pack([one.standardizer(load_bag(table, label=0))]))
    assert found.second_scores is not None
    assert np.isnan(found.second_scores).tolist() == [True] * 2 + [False] * 7
    np.testing.assert_allclose(found.second_scores[2:], output.second_scores.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "kinds"), [("dsmil", ("attention", "value")), ("dtfd", ("value", "attention"))]
)
def test_without_a_positive_class_an_instance_score_has_no_common_scale(
    tmp_path: Path, name: str, kinds: tuple[str, str]
) -> None:
    one = model_of(Classification(("luad", "lusc", "other")), name)
    found = score_features(one, TABLE)
    assert (found.score_kind, found.second_kind) == kinds
    assert one.second_kind == kinds[1]
    assert found.of_kind("logit").score_kind == "value"
    write_tile_scores(tmp_path / "s.parquet", found)
    assert read_tile_scores(tmp_path / "s.parquet").equals(found)
    columns = pq.read_table(tmp_path / "s.parquet").column_names
    assert f"score_{kinds[1]}" in columns
    assert not {"score01", "probability"} & set(columns)


def test_the_files_of_a_run_say_which_second_score_they_hold(tmp_path: Path) -> None:
    """An earlier version wrote none: the header tells it, and the stage score makes the file again."""
    write_tile_scores(tmp_path / "new.parquet", two_scores())
    write_tile_scores(tmp_path / "old.parquet", scores_of([0.2, 0.6], "attention"))
    headers = [tile_scores_header(tmp_path / f"{name}.parquet") for name in ("new", "old")]
    assert [header.second_kind for header in headers if header is not None] == ["logit", ""]
    path = tmp_path / "slides.parquet"
    write_slide_scores(path, [], SlideScoresHeader("m", "d", 1, second_kind="logit"))
    assert read_slide_scores(path)[1].second_kind == "logit"
