"""The kinds of tile score, value by value, and that no file calls a probability what is none."""

import ast
from pathlib import Path

import numpy as np
import pytest

import wsi_mil
from wsi_mil.contracts.score_kinds import SCORE_KINDS, score_kind
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.errors import DataError


def scores_of(values: list[float], kind: str, probability: float = 0.7) -> SlideScores:
    coords = np.array([[100 * i, 0] for i in range(len(values))], np.int32)
    tiles = np.array(values, np.float32)
    return SlideScores("s", probability, (1 - probability, probability), tiles, kind, coords, "t", "f", "m")


def test_an_unknown_kind_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(DataError, match="one of attention, value, logit, probability, got 'rank'"):
        score_kind("rank")


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("logit", [0.0, 2.0, -2.0], [0.5, 0.8807970779778823, 0.11920292202211755]),
        ("logit", [-1e4, 1e4, 800.0], [0, 1, 1]),
        ("probability", [0.1, 0.4], [0.1, 0.4]),
        ("attention", [0.1, 0.4], [0.25, 1.0]),
        ("attention", [0.0, 0.0], [0.0, 0.0]),
        ("value", [-5.0, 30.0, 30.0, 2.0], [0.25, 0.875, 0.875, 0.5]),
    ],
)
def test_score01(kind: str, values: list[float], expected: list[float]) -> None:
    found = scores_of(values, kind).tile_scores01()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", list(SCORE_KINDS))
def test_a_tile_without_a_score_stays_without_one(kind: str) -> None:
    scores = scores_of([0.2, np.nan, 0.5], kind)
    for values in (
        scores.tile_scores01(),
        scores.comparable_scores(),
        scores.suspicion(),
        scores.tile_ranks(),
    ):
        assert np.isnan(values).tolist() == [False, True, False]
    assert not scores.called_tiles(0.1)[1]
    assert np.isnan(scores_of([np.nan], kind).tile_scores01()).all()


def test_comparable_scores_divide_attention_by_its_largest_weight_only() -> None:
    np.testing.assert_allclose(scores_of([0.1, 0.4], "attention").comparable_scores(), [0.25, 1], rtol=1e-6)
    assert scores_of([-1.0, 4.0], "logit").comparable_scores().tolist() == [-1, 4]
    assert score_kind("logit").comparable(np.array([-1.0, 4.0])).tolist() == [-1, 4]


def test_called_tiles_reach_the_threshold_or_more_than_an_equal_share_of_attention() -> None:
    assert scores_of([-1.0, 0.0, 1.0], "logit").called_tiles(0.5).tolist() == [False, True, True]
    attention = scores_of([0.5, 0.25, 0.2, 0.05, np.nan], "attention")
    assert attention.called_tiles(0.9).tolist() == [True, False, False, False, False]


def test_the_threshold_of_tiles() -> None:
    assert score_kind("logit").threshold(0.3) == score_kind("probability").threshold(0.3) == 0.3
    assert score_kind("attention").threshold(0.3) == 0.5


def test_names_say_probability_only_of_probabilities() -> None:
    for kind in SCORE_KINDS.values():
        names = (kind.column, kind.measurement, kind.largest)
        assert all(("prob" in name) == kind.is_probability for name in names)
        assert kind.format_version == (1 if kind.is_probability else 2), (
            "files of probabilities keep format 1"
        )
    assert score_kind("attention").column == score_kind("attention").measurement == "score01"


def test_no_other_module_asks_for_the_name_of_a_kind() -> None:
    """Whoever compares `score_kind` with a name repeats what the table of kinds says."""
    package = Path(wsi_mil.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                text = ast.unparse(node)
                if "kind" in text and any(f"'{name}'" in text for name in SCORE_KINDS):
                    found.append(f"{path.relative_to(package)}: {text}")
    assert [line for line in found if not line.startswith("testing/")] == []
