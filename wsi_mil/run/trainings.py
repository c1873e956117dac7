"""The table that compares models: every fold, repeat and seed, measured on its test part."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from wsi_mil.evaluation.intervals import spread
from wsi_mil.io.files import write_text
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring.model import read_card

METRICS = ("auc", "balanced_accuracy", "accuracy")
COLUMNS = (
    "model",
    "fold",
    "repeat",
    "seed_number",
    "kept_epoch",
    "val_auc",
    "val_loss",
    "threshold",
    *(f"test_{name}" for name in METRICS),
    "test_slides",
)


def write_comparison(run: RunFolder, names: Sequence[str], folds: int) -> Path:
    """Write evaluation/comparison.csv (one row per training) and return its path; an equal file is left alone."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name in names:
        for number in range(folds):
            card = read_card(run.model(name, number))
            training = card["training"]
            row = {
                key: training[key] for key in ("fold", "repeat", "seed_number", "kept_epoch", "test_slides")
            }
            row |= {key: training["metrics"].get(key, math.nan) for key in ("val_auc", "val_loss")}
            row |= {f"test_{key}": training["test"].get(key, math.nan) for key in METRICS}
            writer.writerow({"model": name, "threshold": card["threshold"]["value"], **row})
    path = run.comparison
    if not path.exists() or path.read_text(encoding="utf-8") != text.getvalue():
        write_text(path, text.getvalue())
    return path


def summarise(path: Path) -> list[list[str]]:
    """Return header and rows of the summary of a comparison: per model mean, sd and 95 % interval over its trainings,
    best mean AUC first."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    found = []
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        numbers = {
            key: spread([float(row[key]) for row in own])
            for key in ("test_auc", "test_balanced_accuracy", "val_auc")
        }
        auc, balanced, val = (numbers[key] for key in ("test_auc", "test_balanced_accuracy", "val_auc"))
        interval = "-" if math.isnan(auc.low) else f"{auc.low:.3f} to {min(auc.high, 1):.3f}"
        found.append(
            (
                auc.mean,
                [
                    name,
                    str(len(own)),
                    _number(auc.mean),
                    _number(auc.std),
                    interval,
                    _number(balanced.mean),
                    _number(balanced.std),
                    _number(val.mean),
                ],
            )
        )
    header = ["model", "trainings", "test AUC", "sd", "95 % interval", "balanced accuracy", "sd", "val AUC"]
    return [
        header,
        *(row for _, row in sorted(found, key=lambda pair: -pair[0] if pair[0] == pair[0] else 1)),
    ]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
