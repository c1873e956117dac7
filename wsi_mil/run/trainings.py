"""comparison.csv: every training of a run (fold, repeat, seed) with its metrics on its test part; its
summary."""

import math
from collections.abc import Sequence
from pathlib import Path

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.evaluation.intervals import Spread, spread
from wsi_mil.evaluation.table import MetricEntry, metrics_at, shown_metrics
from wsi_mil.io.tables import Row, read_csv, write_csv
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring.card import read_card
from wsi_mil.tasks import Detection, Task
from wsi_mil.training.learning import UNEXPLAINED

DETECTION = Detection()
IDENTITY = ("fold", "repeat", "seed_number", "kept_epoch")


def write_comparison(run: RunFolder, names: Sequence[str], folds: int, task: Task = DETECTION) -> Path:
    """Write evaluation/comparison.csv, one row for each training, and return its path; an equal file is kept.

    `val_<name>` is the measure that chose the epoch; `test_<name>` is the value of each slide metric that
    applies to the task, NaN where the model card does not have it. Detection also has the threshold.
    `learned` is "yes", "no" or "" (not known), see `wsi_mil.training.learning`.
    """
    metrics = [entry.name for entry in metrics_at("slide", task.kind)]
    merit = f"val_{task.merit}"
    threshold = ["threshold"] if task.kind == "detection" else []
    columns = ["model", *IDENTITY, merit, "val_loss", UNEXPLAINED, "learned", *threshold]
    columns += [*(f"test_{name}" for name in metrics), "test_slides"]
    rows = [
        {key: value for key, value in _row(run, name, number, metrics, merit).items() if key in columns}
        for name in names
        for number in range(folds)
    ]
    write_csv(run.comparison, columns, rows)
    return run.comparison


def _row(run: RunFolder, name: str, number: int, metrics: Sequence[str], merit: str) -> dict[str, object]:
    card = read_card(run.model(name, number))
    training = card.training
    return {
        "model": name,
        **{key: getattr(training, key) for key in (*IDENTITY, "test_slides")},
        **{key: training.metrics.get(key, math.nan) for key in (merit, "val_loss", UNEXPLAINED)},
        "learned": {True: "yes", False: "no", None: ""}[training.learned],
        "threshold": card.threshold.value if card.threshold else math.nan,
        **{f"test_{key}": training.test.get(key, math.nan) for key in metrics},
    }


def summarise(path: Path, task: TaskKind = "detection") -> list[list[str]]:
    """Return header and rows of the summary of comparison.csv, best model first.

    The columns: the number of trainings of each model; mean and standard deviation over trainings of each
    metric that summaries show, and for the first one the 95 % interval; the mean of the measure that chose
    the epoch; how many trainings have learned anything.
    """
    shown = shown_metrics("trainings", task)
    header = ["model", "trainings"]
    for number, title in enumerate(entry.title.removeprefix("slide ") for entry in shown):
        header += [f"test {title}", "sd", "95 % interval"] if number == 0 else [title, "sd"]
    rows = read_csv(path)
    merit = next(
        (key for key in (rows[0] if rows else ()) if key.startswith("val_") and key != "val_loss"), "val_auc"
    )
    header += ["val AUC" if merit == "val_auc" else merit.replace("_", " "), "learned"]
    found = []
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        spreads = [_spread(own, f"test_{entry.name}") for entry in shown]
        cells = [name, str(len(own))]
        for number, over in enumerate(spreads):
            cells += [
                _number(over.mean),
                _number(over.std),
                *([_interval(over, shown[0])] if number == 0 else []),
            ]
        found.append(
            (
                -spreads[0].mean if not shown[0].lower_is_better else spreads[0].mean,
                [*cells, _number(_spread(own, merit).mean), _learned(own)],
            )
        )
    # a model whose first metric is undefined comes last
    found.sort(key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0])
    return [header, *(cells for _, cells in found)]


def _spread(rows: Sequence[Row], column: str) -> Spread:
    return spread([row.number(column) if column in row else math.nan for row in rows])


def _interval(found: Spread, entry: MetricEntry) -> str:
    """Student's t interval, cut to what the metric can be."""
    low, high = max(found.low, entry.bounds[0]), min(found.high, entry.bounds[1])
    return "-" if math.isnan(found.low) else f"{low:.3f} to {high:.3f}"


def _learned(rows: Sequence[Row]) -> str:
    known = [row["learned"] for row in rows if row.get("learned")]
    return f"{known.count('yes')} of {len(known)}" if known else "-"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
