"""Several trainings of a method as one: the mean of their scores, and how far they disagree."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.scores import SlideScores
from wsi_mil.errors import ModelError
from wsi_mil.io.files import digest_json
from wsi_mil.scoring.calibration import Decision, decision
from wsi_mil.scoring.card import CARD
from wsi_mil.scoring.model import TrainedModel
from wsi_mil.scoring.thresholds import Threshold


@dataclass(frozen=True)
class Agreement:
    """What the models say of one slide of detection.

    called: how many of `models` call it positive, each at its own threshold. lowest, highest, std (n - 1; NaN
    of one model): of their probabilities. calibrated: the mean of their calibrated probabilities. conformal:
    the decision. Both are None without calibration.
    """

    models: int
    called: int
    lowest: float
    highest: float
    std: float
    calibrated: float | None
    conformal: Decision | None


def fold_folders(folder: Path) -> list[Path]:
    """Return the folders of all trainings in models/<name>, or the folder itself if it is one training."""
    if (folder / CARD).exists():
        return [folder]
    folds = [path.parent for path in folder.glob(f"fold*/{CARD}")]
    numbered = sorted(folds, key=lambda path: (len(path.name), path.name))
    return numbered or [folder]


def mean_model(models: Sequence[TrainedModel]) -> TrainedModel:
    """Return the record of the mean of several trainings: the first one with the mean threshold and a digest
    of all.

    Raises ModelError if they need other tiles or features, mean other classes, or predict a risk, whose scale
    differs between trainings.
    """
    first = models[0]
    if len(models) == 1:
        return first
    for other in models[1:]:
        for what in ("tissue", "tiles", "encoder_digest", "class_names"):
            one, two = getattr(first, what), getattr(other, what)
            if one != two:
                raise ModelError(
                    f"the trainings of {first.name!r} differ in {what} ({one} and {two}): name one of them"
                )
    if first.task.reading == "risk":
        raise ModelError(
            f"the risks of {len(models)} trainings of {first.name!r} have no common scale: name one of them"
        )
    thresholds = [model.threshold.value for model in models if model.threshold is not None]
    mean = Threshold(statistics.fmean(thresholds), "mean over trainings", "val", "") if thresholds else None
    return replace(first, threshold=mean, digest=digest_json([model.digest for model in models]))


def mean_scores(scores: Sequence[SlideScores], model: TrainedModel) -> SlideScores:
    """Return the mean of the scores of one slide by several trainings. model: their `mean_model`.

    Probabilities, tile scores and values are averaged; of classes, the most probable one is predicted.
    """
    first = scores[0]
    classes = tuple(np.mean([one.class_probabilities for one in scores], 0).tolist())
    second = [one.second_scores for one in scores if one.second_scores is not None]
    of_classes = [one.tile_class_probabilities for one in scores if one.tile_class_probabilities is not None]
    number = first.prediction
    if number is not None:
        values = [one.prediction for one in scores if one.prediction is not None]
        number = float(np.argmax(classes)) if classes else statistics.fmean(values)
    return replace(
        first,
        probability=statistics.fmean(one.probability for one in scores),
        class_probabilities=classes,
        tile_scores=_mean([one.tile_scores for one in scores]),
        model_digest=model.digest,
        prediction=number,
        tile_class_probabilities=_mean(of_classes) if of_classes else None,
        second_scores=_mean(second) if second else None,
    )


def _mean(tiles: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    found: NDArray[np.float64] = np.stack(tiles).astype(np.float64).mean(0)
    return found.astype(np.float32)


def agreement(models: Sequence[TrainedModel], probabilities: Sequence[float], error: float) -> Agreement:
    """Return what the models say of one slide together. error: of the conformal decision."""
    called = sum(
        p >= model.threshold.value
        for model, p in zip(models, probabilities, strict=True)
        if model.threshold is not None
    )
    pairs = [
        (model.calibration, p)
        for model, p in zip(models, probabilities, strict=True)
        if model.calibration is not None
    ]
    known = len(pairs) == len(models)
    calibrated = statistics.fmean(c.calibrated(p) for c, p in pairs) if known else None
    conformal: Decision | None = None
    if known:
        both = np.mean([c.p_values(p) for c, p in pairs], 0)
        conformal = decision(float(both[0]), float(both[1]), error)
    std = statistics.stdev(probabilities) if len(models) > 1 else float("nan")
    return Agreement(len(models), called, min(probabilities), max(probabilities), std, calibrated, conformal)
