"""The table of metrics. Everything that computes or shows a metric takes it from here.

A metric is one entry in one module of `wsi_mil/evaluation/metrics/`, which lists its entries as `METRICS`.
Another package offers entries through the entry points of group `wsi_mil.metrics` (`package.module:METRICS`).
The metric then appears in metrics.json, in the comparison of two models, in the comparison over trainings, in
the report and in the table of `wsi-mil evaluate`, without a change to any other file.
"""

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.errors import ConfigError

Level = Literal["slide", "patch", "lesion", "pixel"]
ShownIn = Literal["report", "terminal", "trainings"]
LEVELS: tuple[Level, ...] = get_args(Level)
SHOWN_IN: tuple[ShownIn, ...] = get_args(ShownIn)
TASKS: tuple[TaskKind, ...] = get_args(TaskKind)
GROUP = "wsi_mil.metrics"
DETECTION: frozenset[TaskKind] = frozenset({"detection"})

COLUMNS: dict[Level, dict[str, str]] = {
    "slide": {
        "truth": "(n,) bool: whether a slide is of a positive class; detection only",
        "scores": "(n,) float64: the probability of the positive classes; of other tasks the index of the "
        "most probable class, the value or the risk that the model predicts",
        "called": "(n,) bool: whether the score reaches the threshold that validation slides chose; "
        "detection only",
        "targets": "(n,) or (n, 2) float64: class index, value, or (time, 1 for an event and 0 for "
        "censored); of tasks other than detection",
        "class_probabilities": "(n, classes) float64; classification and ordinal only",
    },
    "patch": {
        "truth": "(N,) bool: whether a tile lies on a lesion; the tiles of all slides together",
        "scores": "(N,) float64: tile scores that may be compared between slides",
        "called": "(N,) bool: whether the model calls the tile tumour",
    },
    "lesion": {
        "matches": "sequence of Matches, one for each slide",
        "froc_mode": "'official' or 'corrected'",
    },
    "pixel": {"counts": "PixelCounts of all slides together at one threshold"},
}
"""The columns that the function of a metric may need, by level."""


@dataclass(frozen=True)
class MetricEntry:
    """One metric.

    title: the name that people read; it names the level if that is not obvious. short: a name of at most 14
    letters; "" means `title`.
    function: returns a float, NaN if the metric is undefined. It gets the columns `needs` as named arguments.
    needs: names from `COLUMNS[level]`.
    tasks: the kinds of task that it applies to. A run of another task does not list it.
    score_kinds: the kinds of score that it applies to, such as "probability"; None: all.
    both_classes: whether the metric is undefined unless `truth` holds both true and false.
    most_draws: the largest number of bootstrap draws. None: no limit but `evaluation.bootstrap`. 0: no
    interval.
    trials: for a metric that is a probability: returns from truth and groups of all slides how many
    independent trials there are. A value of exactly 0 or 1 then has an exact one-sided bound in place of the
    bootstrap interval, which would have no width. None: no such bound is known.
    lower_is_better: whether a smaller value is better. bounds: the smallest and the largest possible value.
    shown_in: the tables for people that have a column for it. Files hold every metric.
    position: its place in these tables; metrics with a smaller number come first.
    within_slide: patch level only: the name of its mean over slides; "" means `name`.
    """

    name: str
    level: Level
    title: str
    function: Callable[..., float]
    needs: tuple[str, ...]
    tasks: frozenset[TaskKind] = DETECTION
    score_kinds: frozenset[str] | None = None
    both_classes: bool = False
    most_draws: int | None = None
    trials: Callable[[NDArray[np.bool_], Sequence[str]], int] | None = None
    lower_is_better: bool = False
    bounds: tuple[float, float] = (0.0, 1.0)
    shown_in: tuple[ShownIn, ...] = SHOWN_IN
    position: int = 1000
    short: str = ""
    within_slide: str = ""

    def __post_init__(self) -> None:
        where = f"metric {self.name!r}"
        if not self.name.isidentifier():
            raise ConfigError(f"{where}: the name must consist of letters, digits and underscores")
        if self.level not in COLUMNS:
            raise ConfigError(f"{where}: level must be one of {', '.join(LEVELS)}, got {self.level!r}")
        if unknown := sorted(set(self.needs) - set(COLUMNS[self.level])):
            known = ", ".join(COLUMNS[self.level])
            raise ConfigError(f"{where}: level {self.level} has no {unknown[0]!r} to need, it has {known}")
        if self.both_classes and "truth" not in self.needs:
            raise ConfigError(f"{where}: both_classes looks at `truth`, so `needs` must hold it")

    def draws(self, asked: int) -> int:
        """Return the number of bootstrap draws where the settings ask for `asked`."""
        return asked if self.most_draws is None else min(asked, self.most_draws)


def metrics_at(level: Level, task: TaskKind) -> tuple[MetricEntry, ...]:
    """Return the metrics of a level that apply to a task, in the order of tables.

    >>> [entry.name for entry in metrics_at("patch", "detection")]
    ['auc', 'auprc', 'f1']
    """
    return tuple(entry for entry in all_metrics() if entry.level == level and task in entry.tasks)


def listed_metrics(level: Level, task: TaskKind) -> tuple[MetricEntry, ...]:
    """Return the metrics of a level that metrics.json lists for a task.

    They are those that apply. If none applies, as at patch and lesion level of every task but detection, they
    are those of detection: the file then says why they have no value.

    >>> [entry.name for entry in listed_metrics("lesion", "regression")]
    ['score']
    """
    return metrics_at(level, task) or metrics_at(level, "detection")


def shown_metrics(where: ShownIn, task: TaskKind) -> tuple[MetricEntry, ...]:
    """Return the metrics that a table for people has columns for, in their order.

    The report and the terminal show the levels of metrics.json, which has no pixels; trainings are measured
    on slides.

    >>> [entry.title for entry in shown_metrics("trainings", "detection")]
    ['slide AUC', 'balanced accuracy']
    """
    levels = ("slide",) if where == "trainings" else ("slide", "patch", "lesion")
    return tuple(
        entry
        for entry in all_metrics()
        if where in entry.shown_in and task in entry.tasks and entry.level in levels
    )


@cache
def all_metrics() -> tuple[MetricEntry, ...]:
    """Return every metric, in the order of tables. Raises ConfigError if two have the same level and name."""
    from wsi_mil.evaluation import metrics

    found: dict[tuple[Level, str], tuple[MetricEntry, str]] = {}
    for place, entries in (*_of_folder(metrics.__path__, metrics.__name__), *_of_other_packages()):
        for entry in entries:
            key = (entry.level, entry.name)
            if key in found:
                raise ConfigError(
                    f"{place} and {found[key][1]} both define the {entry.level} metric {entry.name!r}: "
                    "rename one"
                )
            found[key] = (entry, place)
    return tuple(sorted((entry for entry, _ in found.values()), key=lambda one: (one.position, one.name)))


def _of_folder(path: Iterable[str], package: str) -> list[tuple[str, tuple[MetricEntry, ...]]]:
    modules = [f"{package}.{module.name}" for module in pkgutil.iter_modules(path)]
    return [(module, import_module(module).METRICS) for module in sorted(modules)]


def _of_other_packages() -> list[tuple[str, tuple[MetricEntry, ...]]]:
    return [(point.value, tuple(point.load())) for point in entry_points(group=GROUP)]
