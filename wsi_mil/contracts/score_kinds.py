"""The kinds of tile score: what the numbers mean, and how files and pictures name them.

A model gives each tile a number of one kind. `ScoreKind.scale` turns it into a value from 0 to 1, called
`score01`. Of a logit or a probability this is a probability. Of attention, and of the outputs of tasks other
than detection, it is not: it orders the tiles of one slide, and the first tile has 1 in every slide, normal
ones included.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.record import Record, require, require_name
from wsi_mil.errors import DataError

Scores = NDArray[np.float64]


def _sigmoid(scores: Scores) -> Scores:
    from scipy.special import expit

    return np.asarray(expit(scores))


def _unchanged(scores: Scores) -> Scores:
    return scores


def _fraction_of_largest(scores: Scores) -> Scores:
    largest = np.nanmax(scores) if np.isfinite(scores).any() else 1.0
    return scores / (largest or 1.0)


def ranks(scores: Scores) -> Scores:
    """Return the fraction of the scores (N,) that are at most as high: above 0, up to 1.

    Ties share their mean rank; NaN stays NaN and does not count.

    >>> ranks(np.array([3.0, 1.0, np.nan, 2.0, 2.0])).tolist()
    [1.0, 0.25, nan, 0.625, 0.625]
    """
    from scipy.stats import rankdata

    known = np.isfinite(scores)
    found = np.full(len(scores), np.nan)
    found[known] = rankdata(scores[known]) / max(int(known.sum()), 1)
    return found


@dataclass(frozen=True)
class ScoreKind(Record):
    """One kind of tile score.

    name: as aggregators and files give it.
    scale: scores (N,) -> score01 (N,), values from 0 to 1; NaN stays NaN.
    lowest, highest: the range of scores.
    column: the name of score01 in tables, and of a detection's measurement in QuPath.
    measurement, largest: the names, in QuPath, of a tile's score01 and of a region's largest score01.
    label, rank_label: what the colour bar of a heatmap says about score01, and about ranks.
    threshold01: the score01 from which on a tile counts as positive. None where score01 is a probability:
    there the model's own threshold applies.
    format_version: of the files whose names depend on the kind.
    """

    name: str
    scale: Callable[[Scores], Scores]
    lowest: float
    highest: float
    column: str
    measurement: str
    largest: str
    label: str
    rank_label: str
    threshold01: float | None
    format_version: int

    def __post_init__(self) -> None:
        where = f"score kind {self.name!r}"
        for field in ("name", "column", "measurement", "largest", "label", "rank_label"):
            require_name(getattr(self, field), where, field)
        require(callable(self.scale), where, "scale", "a function of scores (N,)", self.scale)
        require(self.lowest < self.highest, where, "lowest", f"below highest, {self.highest}", self.lowest)
        limit = self.threshold01
        valid = limit is None or 0 <= limit <= 1
        require(valid, where, "threshold01", "None or a number from 0 to 1", limit)
        for field in ("column", "measurement", "largest"):
            named = getattr(self, field)
            valid = self.is_probability or "prob" not in named
            require(valid, where, field, "without 'prob' where score01 is no probability", named)
        require(self.format_version >= 1, where, "format_version", "1 or more", self.format_version)

    @property
    def is_probability(self) -> bool:
        """Whether score01 is the model's probability that the tile is positive.

        If not, scores of different slides cannot be compared.
        """
        return self.threshold01 is None

    @property
    def of_predictions(self) -> str:
        """The name of the kind that such scores have if the task is not detection.

        There, logits and probabilities are outputs without a common scale.
        """
        return "value" if self.is_probability else self.name

    def threshold(self, own: float) -> float:
        """Return the score01 from which on a tile counts as positive. own: the model's threshold of
        slides."""
        return float(own) if self.threshold01 is None else self.threshold01

    def comparable(self, scores: Scores) -> Scores:
        """Return the scores of one slide (N,) so that they can be ranked together with those of other slides.

        Logits and probabilities stay as they are. Attention, which sums to 1 in each slide, is divided by the
        slide's largest weight.

        >>> score_kind("attention").comparable(np.array([0.1, 0.4])).tolist()
        [0.25, 1.0]
        """
        return scores if self.is_probability else self.scale(scores)


def _probability_kind(
    name: str, scale: Callable[[Scores], Scores], lowest: float, highest: float
) -> ScoreKind:
    return ScoreKind(
        name=name,
        scale=scale,
        lowest=lowest,
        highest=highest,
        column="probability",
        measurement="prob_tumor",
        largest="max_prob",
        label="tile probability",
        rank_label="tile probability, rank among the slide's tiles",
        threshold01=None,
        format_version=1,
    )


_ATTENTION = ScoreKind(
    name="attention",
    scale=_fraction_of_largest,
    lowest=0.0,
    highest=1.0,
    column="score01",
    measurement="score01",
    largest="max_score01",
    label="attention / largest of the slide",
    rank_label="attention, rank among the slide's tiles",
    threshold01=0.5,
    format_version=2,
)
_VALUE = ScoreKind(  # an output of a task other than detection: it has no common scale
    name="value",
    scale=ranks,
    lowest=-math.inf,
    highest=math.inf,
    column="score01",
    measurement="score_rank",
    largest="max_score01",
    label="output, rank among the slide's tiles",
    rank_label="output, rank among the slide's tiles",
    threshold01=0.5,
    format_version=2,
)
_KINDS = (
    _ATTENTION,
    _VALUE,
    _probability_kind("logit", _sigmoid, -math.inf, math.inf),
    _probability_kind("probability", _unchanged, 0.0, 1.0),
)
SCORE_KINDS: Mapping[str, ScoreKind] = MappingProxyType({kind.name: kind for kind in _KINDS})
"""Every kind, by name."""


def score_kind(name: str) -> ScoreKind:
    """Return the kind of that name. Raises DataError if there is none.

    >>> score_kind("attention").column, score_kind("logit").column
    ('score01', 'probability')
    """
    if name not in SCORE_KINDS:
        raise DataError(f"score_kind must be one of {', '.join(SCORE_KINDS)}, got {name!r}")
    return SCORE_KINDS[name]
