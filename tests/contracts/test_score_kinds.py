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
        ("attention", [0.1, 0.4], [0.175, 0.7]),  # times the slide's probability of 0.7
        ("attention", [0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_score01(kind: str, values: list[float], expected: list[float]) -> None:
    found = scores_of(values, kind).tile_scores01()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_score01_of_other_outputs_is_their_rank_in_the_slide() -> None:
    found = score_kind("value").score01(np.array([-5.0, 30.0, 30.0, 2.0]), float("nan"))
    assert found.tolist() == [0.25, 0.875, 0.875, 0.5]


@pytest.mark.parametrize("kind", list(SCORE_KINDS))
def test_a_tile_without_a_score_stays_without_one(kind: str) -> None:
    scores = scores_of([0.2, np.nan, 0.5], kind)
    for values in (
        scores.tile_scores01(),
        scores.comparable_scores(),
        scores.tile_ranks(),
    ):
        assert np.isnan(values).tolist() == [False, True, False]
    assert not scores.called_tiles(0.1)[1]
    assert np.isnan(scores_of([np.nan], kind).tile_scores01()).all()


def test_attention_is_compared_between_slides_by_weight_times_probability() -> None:
    found = scores_of([0.1, 0.4], "attention").comparable_scores()
    np.testing.assert_allclose(found, [0.175, 0.7], rtol=1e-6)
    normal = scores_of([0.1, 0.4], "attention", probability=0.02).comparable_scores()
    assert normal.max() < found.min(), "no tile of a normal slide is more suspicious than one of a tumour"
    assert scores_of([-1.0, 4.0], "logit", probability=0.02).comparable_scores().tolist() == [-1, 4]


def test_without_a_slide_probability_attention_is_a_fraction_of_the_largest_weight() -> None:
    coords = np.zeros((2, 2), np.int32)
    tiles = np.array([0.1, 0.4], np.float32)
    value = SlideScores("s", np.nan, (), tiles, "attention", coords, "t", "f", "m", prediction=13.0)
    np.testing.assert_allclose(value.tile_scores01(), [0.25, 1], rtol=1e-6)
    assert value.label == "attention / largest of the slide"
    assert scores_of([0.1], "attention").label == "attention / largest of the slide x its probability"


def test_called_tiles_reach_the_threshold_of_slides() -> None:
    found = scores_of([-1.0, 0.0, 1.0], "logit")
    assert found.called_tiles(0.5).tolist() == [False, True, True]
    assert found.tile_threshold(0.3) == 0.3


def test_called_tiles_of_attention_have_more_than_an_equal_share_of_a_called_slide() -> None:
    weights = [0.5, 0.25, 0.2, 0.05, np.nan]
    called = scores_of(weights, "attention", probability=0.7)
    assert called.called_tiles(0.6).tolist() == [True, False, False, False, False]
    assert called.tile_threshold(0.6) == pytest.approx(0.7 * 0.25 / 0.5, rel=1e-3)
    assert called.called_tiles(0.71).tolist() == [False] * 5, "the slide is not called"
    equal = scores_of([0.25] * 4, "attention", probability=0.7)
    assert equal.called_tiles(0.7).all(), "all tiles have the largest weight"
    assert not scores_of([0.0, 0.0], "attention").called_tiles(0.5).any()


def test_names_say_probability_only_of_probabilities() -> None:
    for kind in SCORE_KINDS.values():
        names = (kind.column, kind.measurement, kind.largest)
        assert all(("prob" in name) == kind.is_probability for name in names)
        assert (kind.format_version == 1) == kind.is_probability, "files of probabilities keep format 1"
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
