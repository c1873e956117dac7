"""Compute metrics with their intervals, and differences of two models, from the table of metrics."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.contracts.metric import Interval, Metric
from wsi_mil.errors import DataError
from wsi_mil.evaluation.intervals import Statistic, bootstrap_interval, exact_bound
from wsi_mil.evaluation.observations import Observations, Rows
from wsi_mil.evaluation.paired import PairedDifference, paired_bootstrap
from wsi_mil.evaluation.rank_metrics import RankMetric
from wsi_mil.evaluation.table import Level, MetricEntry, listed_metrics, metrics_at
from wsi_mil.randomness import named_generator


def measure(
    entry: MetricEntry,
    data: Observations,
    rng: np.random.Generator,
    draws: int = 1000,
    task: TaskKind = "detection",
) -> Metric:
    """Return the metric of all slides, with its 95 % bootstrap interval over groups unless `draws` is 0.

    A probability of exactly 0 or 1 has a one-sided exact bound instead, if its entry knows the trials.

    A metric that does not apply, or is undefined, has no value and no interval, and its reason says why.

    >>> from wsi_mil.evaluation.observations import SlideObservations
    >>> truth, scores = np.array([True, False, False]), np.array([0.9, 0.8, 0.1])
    >>> slides = SlideObservations(("a", "b", "c"), truth, scores, scores > 0.5)
    >>> accuracy = next(entry for entry in metrics_at("slide", "detection") if entry.name == "accuracy")
    >>> round(measure(accuracy, slides, np.random.default_rng(0), draws=0).value, 3)
    0.667
    """
    if reason := why_undefined(entry, data, task):
        return Metric(math.nan, None, reason, data.n)
    statistic = _statistic(entry, data)
    value = statistic(data.everything())
    if math.isnan(value):
        return Metric(value, None, f"undefined: {data.contents()}", data.n)
    return Metric(value, _interval(entry, value, statistic, data, rng, draws), "", data.n)


def measure_all(
    data: Observations, seed: int, model: str, draws: int = 1000, task: TaskKind = "detection"
) -> dict[str, Metric]:
    """Return every metric of the level of `data` that applies to `task`, by name.

    Each metric has its own random generator, named by model, level and metric. A metric that is added
    therefore changes the interval of no other.
    """
    return {
        entry.name: measure(
            entry, data, named_generator(seed, model, data.level, entry.name), entry.draws(draws), task
        )
        for entry in metrics_at(data.level, task)
    }


def all_undefined(level: Level, reason: str, task: TaskKind = "detection") -> dict[str, Metric]:
    """Return every metric that metrics.json lists for a level, all undefined for the same reason."""
    return {entry.name: Metric(math.nan, None, reason) for entry in listed_metrics(level, task)}


def compare_all(
    first: Observations,
    second: Observations,
    seed: int,
    models: tuple[str, str],
    draws: int = 1000,
    task: TaskKind = "detection",
) -> dict[str, PairedDifference]:
    """Return the difference first - second of every metric of their level, by name.

    Both hold the same slides in the same order. Raises DataError if their groups differ.
    """
    if list(first.groups) != list(second.groups):
        raise DataError(f"{models[0]} and {models[1]} must be compared on the same slides in the same order")
    return {
        entry.name: compare(
            entry,
            first,
            second,
            named_generator(seed, *models, first.level, entry.name),
            entry.draws(draws),
            task,
        )
        for entry in metrics_at(first.level, task)
    }


def compare(
    entry: MetricEntry,
    first: Observations,
    second: Observations,
    rng: np.random.Generator,
    draws: int = 1000,
    task: TaskKind = "detection",
) -> PairedDifference:
    """Return the difference of one metric, first minus second, by paired bootstrap over groups.

    An undefined difference is NaN and has a reason.
    """
    for data in (first, second):
        if reason := why_undefined(entry, data, task):
            return PairedDifference.undefined(reason)
    found = paired_bootstrap(
        _statistic(entry, first), _statistic(entry, second), first.groups, rng, entry.draws(draws)
    )
    return (
        found
        if not math.isnan(found.difference)
        else PairedDifference.undefined(f"undefined: {first.contents()}")
    )


def values(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Return the values of the metrics that are defined.

    >>> values({"auc": Metric(0.9), "f1": Metric(math.nan, reason="no positive slide")})
    {'auc': 0.9}
    """
    return {name: metric.value for name, metric in metrics.items() if metric.defined}


def why_undefined(entry: MetricEntry, data: Observations, task: TaskKind) -> str:
    """Return why the metric cannot be computed from these slides, "" if it can."""
    if entry.level != data.level:
        return f"a metric of level {entry.level} does not apply to observations of level {data.level}"
    if task not in entry.tasks:
        return f"does not apply to {task}: it is for {', '.join(sorted(entry.tasks))}"
    if entry.score_kinds is not None and data.score_kind not in entry.score_kinds:
        return (
            f"does not apply to scores that are a {data.score_kind}: needs "
            f"{', '.join(sorted(entry.score_kinds))}"
        )
    rows = data.everything()
    for need in entry.needs:
        if data.column(need, rows) is None:
            return f"needs {need!r}, which is not known of these slides"
    if entry.both_classes:
        truth: NDArray[np.bool_] = np.asarray(data.column("truth", rows), bool)
        if truth.all() or not truth.any():
            return f"undefined: {data.contents()}"
    return ""


def _interval(
    entry: MetricEntry,
    value: float,
    statistic: Statistic,
    data: Observations,
    rng: np.random.Generator,
    draws: int,
) -> Interval | None:
    """Return the bootstrap interval, or the exact bound of a probability that is 0 or 1; None without
    draws.

    Limits are NaN if the metric is the same on all draws: the cohort then does not show how much it varies.
    """
    if not draws:
        return None
    if entry.trials is not None and value in (0.0, 1.0):
        truth = np.asarray(data.column("truth", data.everything()), bool)
        return exact_bound(value, entry.trials(truth, data.groups))
    found = bootstrap_interval(statistic, data.groups, rng, draws)
    return replace(found, low=math.nan, high=math.nan) if found.low == found.high else found


def _statistic(entry: MetricEntry, data: Observations) -> Statistic:
    """Return the function from numbers of slides to the metric of these slides."""
    if isinstance(entry.function, RankMetric):
        truths, scores = (
            [np.asarray(data.column(name, np.array([row]))) for row in data.everything()]
            for name in ("truth", "scores")
        )
        return entry.function.over_draws(truths, scores)

    def statistic(rows: Rows) -> float:
        return float(entry.function(**{need: data.column(need, rows) for need in entry.needs}))

    return statistic
