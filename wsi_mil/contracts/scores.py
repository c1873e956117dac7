"""Scores of slides and of their tiles, and detections: points at which a model places a lesion."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.contracts.record import Record, require, require_array, require_name
from wsi_mil.contracts.score_kinds import SCORE_KINDS, ScoreKind, ranks, require_second_kind, score_kind
from wsi_mil.errors import DataError

DetectionMethod = Literal["maxima", "components", "tiles"]
ROUNDING = 1e-4
"""How far a score in single precision may lie beyond the ends of its range."""


@dataclass(frozen=True, eq=False)
class SlideScores(Record):
    """What one model says about one slide and its tiles.

    probability: of the positive classes together. NaN for tasks other than detection, which have a prediction
    instead.
    prediction: the index of the most probable class, a value or a risk; None for detection.
    tile_scores (N,) float32: NaN where a tile could not be read.
    score_kind: the name of what they are, see `wsi_mil.contracts.score_kinds`.
    coords (N, 2) int32: upper left corners of the tiles (x, y), in level-0 pixels.
    The digests identify the tile table, the features and the model.
    class_names, tile_class_probabilities (N, classes) float32: what the model says of each tile alone, as if
    it were a slide; of classification, ordinal classes, and detection with more than two classes. Otherwise
    () and None.
    second_scores (N,) float32, second_kind: the method's second score of each tile, and its kind; None and ""
    of methods with one score.
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
    class_names: tuple[str, ...] = ()
    tile_class_probabilities: NDArray[np.float32] | None = None
    second_scores: NDArray[np.float32] | None = None
    second_kind: str = ""

    def __post_init__(self) -> None:
        where = f"scores of slide {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id")
        _check_prediction(where, self.probability, self.prediction)
        valid = all(-ROUNDING <= p <= 1 + ROUNDING for p in self.class_probabilities)
        require(valid, where, "class_probabilities", "from 0 to 1", self.class_probabilities)
        kinds = ", ".join(SCORE_KINDS)
        require(self.score_kind in SCORE_KINDS, where, "score_kind", f"one of {kinds}", self.score_kind)
        require_array(self.coords, where, "coords", ("N", 2), np.int32)
        _check_classes(where, self.class_names, self.tile_class_probabilities, len(self.coords))
        _check_tiles(where, "tile_scores", self.tile_scores, self.kind, len(self.coords))
        require_second_kind(where, self.score_kind, self.second_kind, self.second_scores)
        if self.second_scores is not None:
            kind = SCORE_KINDS[self.second_kind]
            _check_tiles(where, "second_scores", self.second_scores, kind, len(self.coords))

    def class_scores(self, class_name: str) -> NDArray[np.float32]:
        """Return the probability of a class for each tile alone (N,). Raises DataError if there is none."""
        if self.tile_class_probabilities is None or class_name not in self.class_names:
            raise DataError(
                f"scores of slide {self.slide_id!r} have no tile probabilities of class {class_name!r}: run "
                "`wsi-mil score` again"
            )
        return self.tile_class_probabilities[:, self.class_names.index(class_name)]

    @property
    def kind(self) -> ScoreKind:
        """What the tile scores are, and how they are named in files."""
        return SCORE_KINDS[self.score_kind]

    @property
    def second(self) -> "SlideScores | None":
        """The same slide with the second tile scores as its tile scores; None if there are none."""
        if self.second_scores is None:
            return None
        return replace(
            self,
            tile_scores=self.second_scores,
            score_kind=self.second_kind,
            second_scores=self.tile_scores,
            second_kind=self.score_kind,
        )

    def of_kind(self, name: str) -> "SlideScores":
        """Return the scores with those of kind `name` as tile scores; unchanged if there are none.

        Of tasks other than detection, a logit or a probability has the kind `value`.
        """
        wanted = (name, score_kind(name).of_predictions)
        second = self.second
        return second if second is not None and self.second_kind in wanted else self

    def tile_scores01(self) -> NDArray[np.float32]:
        """Return the score01 of the tiles (N,): from 0 to 1, comparable between slides, NaN where not known.

        A probability only if `kind.is_probability`. See `ScoreKind.score01`.
        """
        return self.kind.score01(self.tile_scores.astype(np.float64), self.probability).astype(np.float32)

    def comparable_scores(self) -> NDArray[np.float64]:
        """Return tile scores (N,) that can be ranked together with those of other slides, see `ScoreKind`."""
        return self.kind.comparable(self.tile_scores.astype(np.float64), self.probability)

    def called_tiles(self, threshold: float) -> NDArray[np.bool_]:
        """Return (N,): which tiles the model calls positive. threshold: that of slides, chosen on
        validation."""
        return self.tile_scores01() >= self.tile_threshold(threshold)

    def eligible_tiles(self, threshold: float) -> NDArray[np.bool_]:
        """Return (N,): which tiles a limit that comes from other slides may call. threshold: as above.

        Of probabilities all. Of attention those that the model calls: normal slides, whose probability is
        near 0, give a limit that nearly every tile of a called slide exceeds, whatever its weight.
        """
        if self.kind.is_probability:
            return np.ones(len(self.tile_scores), np.bool_)
        return self.called_tiles(threshold)

    def tile_threshold(self, threshold: float) -> float:
        """Return the score01 from which on a tile counts as positive. threshold: that of slides.

        Of probabilities it is the same. Of attention it is the score01 of 1 / N, which is the weight of every
        tile if all were equal, so that tiles of more weight count. If the slide itself is not called, no tile
        is.
        """
        known = self.tile_scores[np.isfinite(self.tile_scores)].astype(np.float64)
        if self.kind.is_probability or self.probability < threshold or not known.any():
            return float(threshold)
        equal_share = self.probability / (len(known) * known.max())
        return float(np.float32(min(equal_share * (1 + ROUNDING), self.probability)))

    @property
    def label(self) -> str:
        """What the colour bar of a heatmap of score01 says."""
        return self.kind.label if self.prediction is None else self.kind.label_within

    def tile_ranks(self) -> NDArray[np.float32]:
        """Return the fraction of the slide's tiles that score at most as high (N,): above 0, up to 1.

        Ties share their mean rank; NaN stays NaN.
        """
        return ranks(self.tile_scores.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True)
class Detection(Record):
    """A point at which a model places a lesion.

    x0_px, y0_px: level-0 pixels. score01: how sure the model is, from 0 to 1; a probability where the
    model's tile scores are (`ScoreKind.is_probability`).
    """

    slide_id: str
    x0_px: float
    y0_px: float
    score01: float

    def __post_init__(self) -> None:
        where = f"detection of slide {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id")
        require(math.isfinite(self.x0_px), where, "x0_px", "finite", self.x0_px)
        require(math.isfinite(self.y0_px), where, "y0_px", "finite", self.y0_px)
        require(math.isfinite(self.score01), where, "score01", "finite", self.score01)


PARTS = ("train", "val", "test", "unlabelled")
FIRST_CLASS = 0
"""The negative class of rows that do not say whether they are positive."""


@dataclass(frozen=True)
class SlideScoreRow(Record):
    """One slide's row of scores/<model>/slides.parquet.

    fold: number of the model that scored the slide. part: the slide's part of that fold's split, or
    "unlabelled".
    label: class index, None where the slide has no label. predicted: whether probability >= threshold.
    tiles: number of tiles. The digests identify the tile table, the features and the model.

    is_positive: whether the label is a positive class, as the run's `LabelScheme` says; None in rows of
    earlier versions, whose first class was the negative one. class_probabilities: of more than two classes.

    Tasks other than detection have NaN for probability and threshold, and instead
    prediction: the index of the most probable class, a value or a risk;
    target: what it is compared with, (class index,), (value,) or (time, event); empty where the slide has no
    label;
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
    is_positive: bool | None = None

    def __post_init__(self) -> None:
        where = f"slide scores of {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id")
        require(self.part in PARTS, where, "part", f"one of {', '.join(PARTS)}", self.part)
        _check_prediction(where, self.probability, self.prediction)
        expected = "a number for detection and NaN for any other task"
        valid = math.isnan(self.threshold) == (self.prediction is not None)
        require(valid, where, "threshold", expected, self.threshold)
        valid = all(map(math.isfinite, self.target))
        require(valid, where, "target", "finite", self.target)
        valid = all(-ROUNDING <= p <= 1 + ROUNDING for p in self.class_probabilities)
        require(valid, where, "class_probabilities", "from 0 to 1", self.class_probabilities)
        for field in ("fold", "tiles", "label"):
            value = getattr(self, field)
            require(value is None or value >= 0, where, field, "0 or more", value)

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
        """Whether the label is a positive class. Raises DataError without a label."""
        label = self.class_index
        return self.is_positive if self.is_positive is not None else label != FIRST_CLASS


def _check_prediction(where: str, probability: float, prediction: float | None) -> None:
    """Raise DataError unless there is a probability from 0 to 1 or a finite prediction, and not both."""
    if prediction is None:
        require(0 <= probability <= 1, where, "probability", "from 0 to 1", probability)
        return
    require(math.isfinite(prediction), where, "prediction", "finite", prediction)
    require(math.isnan(probability), where, "probability", "NaN beside a prediction", probability)


def _check_tiles(where: str, field: str, scores: NDArray[np.float32], kind: ScoreKind, tiles: int) -> None:
    """Raise DataError unless the scores are float32 (tiles,), finite or NaN, in the range of their kind."""
    require_array(scores, where, field, (tiles,), np.float32)
    known = scores[~np.isnan(scores)]
    if len(known):
        valid = bool(np.isfinite(known).all())
        valid &= bool(known.min() >= kind.lowest - ROUNDING and known.max() <= kind.highest + ROUNDING)
        expected = f"finite or NaN, from {kind.lowest:g} to {kind.highest:g}"
        require(valid, where, field, expected, (float(known.min()), float(known.max())))


def _check_classes(
    where: str, names: tuple[str, ...], probabilities: NDArray[np.float32] | None, tiles: int
) -> None:
    """Raise DataError unless there is one column of probabilities for each class name."""
    require(len(set(names)) == len(names), where, "class_names", "different names", names)
    valid = bool(names) == (probabilities is not None)
    require(valid, where, "tile_class_probabilities", f"one column for each of {list(names)}", probabilities)
    if probabilities is None:
        return
    require_array(probabilities, where, "tile_class_probabilities", (tiles, len(names)), np.float32)
    known = probabilities[~np.isnan(probabilities)]
    valid = not len(known) or bool(known.min() >= -ROUNDING and known.max() <= 1 + ROUNDING)
    require(valid, where, "tile_class_probabilities", "from 0 to 1 or NaN", known[:4].tolist())


@dataclass(frozen=True)
class SlideScoresHeader(Record):
    """The header of scores/<model>/slides.parquet.

    model: the model's name. split_digest: of the split that names the parts, empty for predictions of new
    slides.
    folds: number of models that scored. task: the name of the task (`task.kind` of the configuration).
    scheme: what the classes mean; None in files of earlier versions, and for tasks without classes.
    second_kind: the kind of the model's second tile score, "" if it has one score only.
    not_learned: numbers of the folds whose training has learned nothing (`wsi_mil.training.learning`).
    """

    model: str
    split_digest: str
    folds: int
    task: str = "detection"
    scheme: LabelScheme | None = None
    second_kind: str = ""
    not_learned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        where = f"slide scores of model {self.model!r}"
        kinds = ", ".join(SCORE_KINDS)
        require(
            self.second_kind in ("", *SCORE_KINDS), where, "second_kind", f"one of {kinds}", self.second_kind
        )
        require_name(self.model, where, "model")
        require(self.folds >= 1, where, "folds", "1 or more", self.folds)
        valid = all(0 <= fold < self.folds for fold in self.not_learned)
        require(valid, where, "not_learned", f"numbers from 0 to {self.folds - 1}", self.not_learned)
        require_name(self.task, where, "task")
