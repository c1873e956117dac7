"""Methods of a run compared over all their trainings: evaluation/methods.json."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from wsi_mil.bags import Split
from wsi_mil.contracts.labels import TaskKind
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation.methods import MethodDifference, compare_trainings, holm
from wsi_mil.evaluation.table import MetricEntry, shown_metrics
from wsi_mil.io.json import without_nan, write_json
from wsi_mil.io.tables import Row, read_csv
from wsi_mil.run.folder import RunFolder

FORMAT = 1


@dataclass(frozen=True)
class MethodPair:
    """Two methods and their difference, first minus second."""

    first: str
    second: str
    difference: MethodDifference


@dataclass(frozen=True)
class MethodComparison:
    """The pairs of methods that were compared by `metric`: the family of Holm's correction.

    test_to_train: mean number of test slides / number of training and validation slides.
    """

    metric: MetricEntry
    test_to_train: float
    pairs: tuple[MethodPair, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file; NaN is null."""
        pairs = [{"models": [pair.first, pair.second], **asdict(pair.difference)} for pair in self.pairs]
        found = {
            "kind": "method comparison",
            "format_version": FORMAT,
            "metric": self.metric.name,
            "test_to_train": self.test_to_train,
            "pairs": pairs,
        }
        return dict(without_nan(found))


def compare_methods(run: RunFolder, names: Sequence[str], task: TaskKind = "detection") -> MethodComparison:
    """Return every pair of the methods `names`, compared by the first metric of the summary of trainings.

    Raises StoreError before the first training, DataError for a method that has none.
    """
    if not run.comparison.exists() or not run.split.exists():
        raise StoreError(f"no trainings in {run.path}: run `wsi-mil train` first")
    split, metric = Split.load(run.split), shown_metrics("trainings", task)[0]
    rows = read_csv(run.comparison)
    if missing := [name for name in names if not any(row["model"] == name for row in rows)]:
        raise DataError(f"no training of {missing[0]!r} in {run.comparison}: run `wsi-mil train`")
    values = {name: _by_fold(rows, name, metric, len(split.folds)) for name in names}
    places = [f"{fold.digest('train')} {fold.digest('val')} {fold.digest('test')}" for fold in split.folds]
    ratios = [len(fold.test) / (len(fold.train) + len(fold.val)) for fold in split.folds]
    ratio = sum(ratios) / len(ratios)
    chosen = list(itertools.combinations(names, 2))
    found = [compare_trainings(values[one], values[other], places, ratio) for one, other in chosen]
    adjusted = holm([one.p_two_sided for one in found])
    pairs = tuple(
        MethodPair(*pair, replace(one, p_holm=p))
        for pair, one, p in zip(chosen, found, adjusted, strict=True)
    )
    return MethodComparison(metric, ratio, pairs)


def write_methods(run: RunFolder, names: Sequence[str], task: TaskKind = "detection") -> MethodComparison:
    """Write evaluation/methods.json and return what it holds."""
    found = compare_methods(run, names, task)
    write_json(run.comparison.with_name("methods.json"), found.as_json())
    return found


def method_table(found: MethodComparison) -> list[list[str]]:
    """Return header and one row for each pair, the difference with its interval, p and p after Holm."""
    header = [
        "methods",
        found.metric.title,
        "difference",
        "95 % interval",
        "p",
        "p (Holm)",
        "splits, trainings",
    ]
    return [header, *(_cells(pair) for pair in found.pairs)]


def _cells(pair: MethodPair) -> list[str]:
    one = pair.difference
    interval = one.reason or f"{one.low:+.3f} to {one.high:+.3f}"
    return [
        f"{pair.first} - {pair.second}",
        f"{_number(one.first)}, {_number(one.second)}",
        "-" if math.isnan(one.difference) else f"{one.difference:+.3f}",
        interval,
        _number(one.p_two_sided),
        _number(one.p_holm),
        f"{one.splits}, {one.trainings}",
    ]


def _by_fold(rows: Sequence[Row], name: str, metric: MetricEntry, folds: int) -> list[float]:
    """Return the metric of a method's training on each fold; NaN where there is none."""
    values = [math.nan] * folds
    for row in rows:
        fold, column = int(row["fold"]), f"test_{metric.name}"
        if row["model"] == name and fold < folds and column in row:
            values[fold] = row.number(column)
    return values


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
