"""train.search: one training for each learning rate; validation slides choose, no test slide is seen."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from wsi_mil.aggregators import Aggregator
from wsi_mil.errors import ConfigError
from wsi_mil.io.tables import write_csv
from wsi_mil.paths import below
from wsi_mil.training import FitResult, TrainSpec
from wsi_mil.training.loop import HISTORY

Trained = tuple[Aggregator, TrainSpec, FitResult]
"""A model, the settings that it was trained with, and how its training went."""


def best_rate(spec: TrainSpec, folder: Path, train: Callable[[TrainSpec, Path], Trained]) -> Trained:
    """Return the training of the learning rate that validation slides choose.

    train: trains from the same seed with the given settings in a folder of its own. The choice is nested in
    the fold: by the measure that chooses the epoch, and among equals by the lower validation loss. Writes
    search.csv into `folder`, one row for each rate. Without `spec.search` there is one training, in `folder`.
    """
    if not spec.search:
        return train(spec, folder)
    if spec.select_by == "last":
        raise ConfigError("train.search needs validation slides: set train.select_by to val_auc or val_loss")
    tried = [train(spec.model_copy(update={"lr": rate}), _folder_of(folder, rate)) for rate in spec.search]
    best = max(tried, key=lambda one: _merit(spec, one[2]))
    rows = [
        {"lr": used.lr, "kept_epoch": result.epoch, **_measures(result), "chosen": int(used is best[1])}
        for _, used, result in tried
    ]
    write_csv(folder / "search.csv", list(rows[0]), rows)
    shutil.copyfile(_folder_of(folder, best[1].lr) / HISTORY, folder / HISTORY)
    return best


def _folder_of(folder: Path, rate: float) -> Path:
    return below(folder, f"search/lr_{rate:g}", "learning rate")


def _measures(result: FitResult) -> dict[str, float]:
    merit = f"val_{result.task.merit}"
    return {key: result.metrics.get(key, math.nan) for key in (merit, "val_loss")}


def _merit(spec: TrainSpec, result: FitResult) -> tuple[float, float]:
    """Return the key of a training: the largest is chosen."""
    merit, loss = _measures(result).values()
    if spec.select_by == "val_loss":
        return -loss, 0.0
    return (-math.inf if math.isnan(merit) else merit), -loss
