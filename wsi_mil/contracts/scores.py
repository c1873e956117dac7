"""Scores of slides and tiles, and points that claim a lesion."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.labels import is_positive
from wsi_mil.errors import DataError

DetectionMethod = Literal["maxima", "components", "tiles"]
ATTENTION_THRESHOLD = 0.5
"""Of the slide's largest weight: attention has no unit in which a threshold could be chosen."""


@dataclass(frozen=True)
class SlideScores:
    """One slide as one model sees it.

    probability: of the positive class (with more than two classes: of any class but the first); NaN for tasks other
    than detection, which have a `prediction` instead: the index of the most probable class, a value or a risk.
    tile_scores (N,) float32, NaN where a tile could not be read; `score_kind`: attention, logit or probability.
    coords (N, 2) int32 level-0 px. The digests say which tile table, features and checkpoint they belong to.
    """

    slide_id: str
    probability: float
    class_probabilities: tuple[float, ...]
    tile_scores: NDArray[np.float32]
    score_kind: str
    coords: NDArray[np.int32]
    tiles_digest: str
    features_digest: str
    model_digest: str
    prediction: float | None = None

    def __post_init__(self) -> None:
        if self.tile_scores.shape != (len(self.coords),):
            raise DataError(
                f"scores of {self.slide_id!r}: {self.tile_scores.shape} for {len(self.coords)} tiles"
            )
        _check_prediction(f"scores of {self.slide_id!r}", self.probability, self.prediction)

    def tile_probabilities(self) -> NDArray[np.float32]:
        """Return tile scores on [0, 1]: logits through the sigmoid, attention divided by its largest value, values as
        their rank among the slide's tiles.

        Only the first is a probability in the model's sense; the others rank the tiles of one slide.
        """
        scores = self.tile_scores.astype(np.float64)
        if self.score_kind == "logit":
            return (1 / (1 + np.exp(-np.clip(scores, -60, 60)))).astype(np.float32)
        if self.score_kind == "value":
            return self.tile_ranks()
        if self.score_kind == "attention":
            top = np.nanmax(scores) if np.isfinite(scores).any() else 1.0
            return (scores / (top or 1.0)).astype(np.float32)
        return scores.astype(np.float32)

    def tile_ranks(self) -> NDArray[np.float32]:
        """Return the share of the slide's tiles that score at most as high, (N,) in (0, 1], ties averaged; NaN stays NaN."""
        from scipy.stats import rankdata

        finite = np.isfinite(self.tile_scores)
        ranks = np.full(len(self.tile_scores), np.nan, np.float32)
        ranks[finite] = rankdata(self.tile_scores[finite]) / max(int(finite.sum()), 1)
        return ranks


@dataclass(frozen=True)
class Detection:
    """A point that claims a lesion: level-0 pixels and a probability."""

    slide_id: str
    x0_px: float
    y0_px: float
    probability: float


PARTS = ("train", "val", "test", "unlabelled")


@dataclass(frozen=True)
class SlideScoreRow:
    """One slide's row of scores/<model>/slides.parquet.

    fold: number of the model that scored the slide. part: the slide's part of that fold's split, or "unlabelled".
    label: class index, None where the slide has no label. predicted: whether probability >= threshold.
    tiles: number of tiles. The digests say which tile table, features and model the scores belong to.

    Tasks other than detection have NaN for probability and threshold, and instead
    prediction: the index of the most probable class, a value or a risk;
    target: what it is compared with, (class index,), (value,) or (time, event); empty where the slide has no label;
    class_probabilities: of tasks with classes only.
    """

    slide_id: str
    patient: str
    fold: int
    part: str
    label: int | None
    probability: float
    threshold: float
    predicted: bool
    tiles: int
    tiles_digest: str
    features_digest: str
    model_digest: str
    prediction: float | None = None
    target: tuple[float, ...] = ()
    class_probabilities: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        where = f"slide scores of {self.slide_id!r}"
        if self.part not in PARTS:
            raise DataError(f"{where}: part must be one of {', '.join(PARTS)}, got {self.part!r}")
        _check_prediction(where, self.probability, self.prediction)
        if self.prediction is None and math.isnan(self.threshold):
            raise DataError(f"{where}: the threshold is NaN")
        if self.prediction is not None and not math.isnan(self.threshold):
            raise DataError(f"{where}: detection, and only detection, has a threshold; got {self.threshold}")
        if min(self.fold, self.tiles, 0 if self.label is None else self.label) < 0:
            raise DataError(
                f"{where}: fold, tiles and label must not be negative, got {self.fold}, {self.tiles}, {self.label}"
            )

    @property
    def labelled(self) -> bool:
        """Whether the slide has a label of the run's task."""
        return bool(self.target) or (self.prediction is None and self.label is not None)

    @property
    def shown(self) -> float:
        """The number that tables show: the probability of detection, the prediction of other tasks."""
        return self.probability if self.prediction is None else self.prediction

    @property
    def class_index(self) -> int:
        """The label of a labelled slide. Raises DataError if the slide has none."""
        if self.label is None:
            raise DataError(f"slide {self.slide_id!r} has no label: score it as part of a labelled split")
        return self.label

    @property
    def positive(self) -> bool:
        """Whether the label is a positive class (any but the first). Raises DataError without a label."""
        return is_positive(self.class_index)


def _check_prediction(where: str, probability: float, prediction: float | None) -> None:
    """Raise DataError unless there is a probability in [0, 1] or a finite prediction, and not both."""
    if prediction is None and not 0 <= probability <= 1:
        raise DataError(f"{where}: probability must lie in [0, 1], got {probability}")
    if prediction is not None and not (math.isfinite(prediction) and math.isnan(probability)):
        raise DataError(
            f"{where}: expected a finite prediction and no probability, got {prediction} and {probability}"
        )


@dataclass(frozen=True)
class SlideScoresHeader:
    """What scores/<model>/slides.parquet says of itself.

    model: the model's name. split_digest: of the split that named the parts, empty for predictions of new slides.
    folds: number of models that scored. task: the name of the task (`task.kind` of the configuration).
    """

    model: str
    split_digest: str
    folds: int
    task: str = "detection"

    def __post_init__(self) -> None:
        if self.folds < 1:
            raise DataError(
                f"slide scores of model {self.model!r}: folds must be at least 1, got {self.folds}"
            )
