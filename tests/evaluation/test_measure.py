"""Metrics of the table: values, what does not apply or is undefined, and the random numbers of draws."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from wsi_mil.contracts.metric import Metric
from wsi_mil.errors import DataError
from wsi_mil.evaluation.comparison import compare_annotated, compare_slides
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.intervals import bootstrap_interval
from wsi_mil.evaluation.measure import all_undefined, compare, compare_all, measure, measure_all, values
from wsi_mil.evaluation.observations import (
    LabelledTiles,
    LesionObservations,
    PatchObservations,
    PixelObservations,
    SlideObservations,
)
from wsi_mil.evaluation.pixel_metrics import PixelCounts
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.table import MetricEntry, metrics_at
from wsi_mil.evaluation.truth import HeldOutSlide
from wsi_mil.randomness import named_generator

TRUTH = np.array([True, False] * 8)
SCORES = np.random.default_rng(0).random(16)
SLIDES = SlideObservations(tuple(map(str, range(16))), TRUTH, SCORES, SCORES >= 0.5)
MEAN = MetricEntry("mean", "slide", "mean", lambda scores: float(scores.mean()), ("scores",))


def entry(level: str, name: str) -> MetricEntry:
    return next(one for one in metrics_at(level, "detection") if one.name == name)  # type: ignore[arg-type]


def test_a_metric_that_does_not_apply_is_a_metric_with_a_reason(rng: np.random.Generator) -> None:
    cases = {
        "does not apply to survival": measure(MEAN, SLIDES, rng, 5, "survival"),
        "does not apply to scores that are a risk: needs probability": measure(
            entry("slide", "brier"), replace(SLIDES, kind="risk"), rng, 5
        ),
        "needs 'targets'": measure(replace(MEAN, needs=("targets",)), SLIDES, rng, 5),
        "a metric of level patch": measure(entry("patch", "auc"), SLIDES, rng, 5),
        "8 positive of 8 slides": measure(
            entry("slide", "auc"), SlideObservations(("p",) * 8, TRUTH[::2], SCORES[::2], TRUTH[::2]), rng, 5
        ),
    }
    for reason, found in cases.items():
        assert math.isnan(found.value)
        assert found.interval is None
        assert reason in found.reason
    targets = replace(SLIDES, targets=np.arange(16.0))
    last = replace(MEAN, needs=("targets",), function=lambda targets: float(targets[-1]))
    assert measure(last, targets, rng, 0).value == 15


def test_metrics_of_other_tasks_are_not_listed() -> None:
    assert set(measure_all(SLIDES, 0, "m", 0, "survival")) == {"concordance"}
    assert not set(measure_all(SLIDES, 0, "m", 0, "classification")) & {"auc", "accuracy"}
    assert metrics_at("lesion", "classification") == ()


def test_each_metric_has_a_generator_of_its_own() -> None:
    found = measure_all(SLIDES, 7, "m", 50)
    for name, metric in found.items():
        alone = measure(entry("slide", name), SLIDES, named_generator(7, "m", "slide", name), 50)
        assert metric == alone
    assert found["auc"].interval != measure_all(SLIDES, 8, "m", 50)["auc"].interval
    assert found["auc"].interval != measure_all(SLIDES, 7, "other", 50)["auc"].interval


def test_an_interval_is_that_of_the_bootstrap_over_patients() -> None:
    patients = tuple("aabbccddeeffgghh")
    data = replace(SLIDES, patients=patients)
    found = measure(MEAN, data, np.random.default_rng(3), 200)
    expected = bootstrap_interval(lambda rows: SCORES[rows].mean(), patients, np.random.default_rng(3), 200)
    assert found == Metric(SCORES.mean(), expected, "", 16)


def test_draws_are_limited_by_the_entry() -> None:
    tiles = tuple(LabelledTiles(str(i), str(i), TRUTH, SCORES, SCORES > 0.5) for i in range(3))
    for metric in measure_all(PatchObservations(tiles), 0, "m", 300).values():
        assert metric.interval is not None
        assert metric.interval.draws == 300  # as configured, at patch level as well
    limited = replace(MEAN, most_draws=40)
    found = measure(limited, SLIDES, np.random.default_rng(0), limited.draws(1000))
    assert found.interval is not None
    assert found.interval.draws == 40


def test_a_metric_that_is_the_same_on_all_draws_has_no_limits(rng: np.random.Generator) -> None:
    perfect = replace(SLIDES, scores=TRUTH.astype(float), called=TRUTH)
    found = measure(entry("slide", "f1"), perfect, rng, 50)
    assert found.value == 1
    assert found.interval is not None
    assert (found.interval.defined, found.interval.draws) == (False, 50)


@pytest.mark.parametrize(
    ("inverted", "low", "high"), [(False, 0.05 ** (1 / 8), 1), (True, 0, 1 - 0.05 ** (1 / 8))]
)
def test_a_perfect_auc_has_a_one_sided_bound(inverted: bool, low: float, high: float) -> None:
    data = replace(SLIDES, scores=(inverted != TRUTH).astype(float))
    found = measure_all(data, 0, "m", 50)["auc"].interval
    assert found is not None
    assert (found.low, found.high, found.one_sided) == (pytest.approx(low), pytest.approx(high), True)


def test_a_perfect_accuracy_counts_patients(rng: np.random.Generator) -> None:
    data = replace(SLIDES, called=TRUTH, patients=tuple("aabbccddeeffgghh"))
    found = measure(entry("slide", "accuracy"), data, rng, 50).interval
    assert found is not None
    assert found.low == pytest.approx(binomtest(8, 8).proportion_ci(0.90, "exact").low)


def test_tiles_are_pooled_and_their_kind_is_known() -> None:
    one = LabelledTiles("a", "p", TRUTH, SCORES, SCORES > 0.5, "attention")
    two = LabelledTiles("b", "p", ~TRUTH, SCORES / 2, SCORES > 0.5, "attention")
    data = PatchObservations((one, two))
    np.testing.assert_array_equal(
        data.column("scores", np.array([1, 0, 1])), np.concatenate([SCORES / 2, SCORES, SCORES / 2])
    )
    assert (data.score_kind, data.n, data.n_positive) == ("attention", 32, 16)
    only = MetricEntry("p", "patch", "p", lambda scores: 0.0, ("scores",), score_kinds=frozenset({"logit"}))
    assert "scores that are a attention" in measure(only, data, np.random.default_rng(0), 0).reason


def test_lesions_and_pixels() -> None:
    matches = (Matches((0.9, 0.3), (0.8, 0.0), 2), Matches((0.5,), (), 0))
    data = LesionObservations(("a", "b"), matches, "corrected")
    found = measure_all(data, 0, "m", 20)["score"]
    # the false positive of 0.9 comes before the lesion of 0.8:
    # nothing is found below half a false positive per slide
    assert found.value == pytest.approx((0 + 5 * 0.5) / 6)
    assert found.n == 2
    none = measure_all(LesionObservations(("b",), matches[1:]), 0, "m", 20)["score"]
    assert none.reason == "undefined: 0 lesions on 1 slides"
    counts = [
        PixelCounts(np.array([30.0]), np.array([20.0]), 50.0),
        PixelCounts(np.array([10.0]), np.array([0.0]), 0),
    ]
    dice = measure_all(PixelObservations(("a", "b"), tuple(counts)), 0, "m", 0)["dice"]
    assert dice.value == pytest.approx(2 * 20 / (40 + 50))


def test_undefined_for_one_reason() -> None:
    found = all_undefined("patch", "no annotations")
    assert set(found) == {"auc", "auprc", "f1"}
    assert {metric.reason for metric in found.values()} == {"no annotations"}
    assert values(found) == {}


def test_the_difference_of_two_models() -> None:
    better = replace(SLIDES, scores=np.where(TRUTH, 0.9, 0.1), called=TRUTH)
    found = compare_all(better, SLIDES, 0, ("a", "b"), 200)
    single = measure_all(SLIDES, 0, "b", 0)
    for name, one in found.items():
        assert one.second == pytest.approx(single[name].value)
        assert one.difference == pytest.approx(one.first - one.second)
        assert one.low <= one.difference <= one.high
        assert one.reason == ""
    assert found["accuracy"].p_two_sided < 0.05
    again = compare(entry("slide", "auc"), better, SLIDES, named_generator(0, "a", "b", "slide", "auc"), 200)
    assert found["auc"] == again
    with pytest.raises(DataError, match="a and b must be compared on the same slides"):
        compare_all(better, replace(SLIDES, patients=tuple(reversed(SLIDES.patients))), 0, ("a", "b"))


def test_a_difference_that_is_undefined_has_a_reason(rng: np.random.Generator) -> None:
    one_class = SlideObservations(("a", "b"), np.ones(2, bool), SCORES[:2], np.ones(2, bool))
    found = compare_slides(one_class, one_class, ("a", "b"), EvaluationSpec(bootstrap=5))
    assert found.differences["auc"].reason == "undefined: 2 positive of 2 slides"
    assert math.isnan(found.differences["auc"].difference)
    assert found.delong is None
    assert "two slides of each class" in found.delong_reason
    missing = compare(replace(MEAN, needs=("targets",)), SLIDES, SLIDES, rng, 5)
    assert "needs 'targets'" in missing.reason


def test_models_are_compared_on_tiles_and_lesions() -> None:
    def held_out(scores: np.ndarray, probability: float) -> list[HeldOutSlide]:
        tiles = LabelledTiles("s", "p", TRUTH, scores, scores > 0.5)
        return [HeldOutSlide("s", "p", 0, tiles, (), Matches((), (probability,), 1), (), 0.5)]

    spec = EvaluationSpec(bootstrap=10, froc_mode="corrected")
    found = compare_annotated(held_out(SCORES, 0.9), held_out(1 - SCORES, 0.0), ("a", "b"), spec)
    assert found.patch["auc"].first == pytest.approx(1 - found.patch["auc"].second)
    assert (found.froc["score"].first, found.froc["score"].second) == (1.0, 0.0)


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"one length, got lengths \[2, 3\]"):
        SlideObservations(("a", "b"), np.ones(2, bool), np.ones(3), np.ones(2, bool))


def test_a_metric_has_a_reason_exactly_where_it_is_undefined() -> None:
    for value, reason in ((math.nan, ""), (0.5, "a reason")):
        with pytest.raises(DataError, match="reason must be given exactly where the value is NaN"):
            Metric(value, reason=reason)
