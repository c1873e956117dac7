"""The kinds of tile score: what the numbers mean, and how files and pictures name them.

A model gives each tile a number of one kind. `ScoreKind.score01` turns it into a value from 0 to 1, called
`score01`, which can be compared between slides. Of a logit or a probability this is a probability.

Attention weights sum to 1 in every slide, and say only which tiles count for the slide's prediction. Their
score01 is weight / largest weight of the slide x probability of the slide. Without the last factor each
normal slide has a tile of 1. docs/adr/0022-attention-times-probability.md compares other definitions.

The outputs of tasks other than detection have no common scale: score01 is their rank in the slide.

Methods with attention and an instance classifier give each tile two scores, of different kinds. The kind is
the name of the score in files, tables and settings (docs/adr/0025-two-tile-scores.md).
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
    scale: scores (N,) -> values (N,) from 0 to 1 within one slide; NaN stays NaN.
    is_probability: whether score01 is the model's probability that the tile is positive.
    lowest, highest: the range of scores.
    column: the name of score01 in tables, and of a detection's measurement in QuPath.
    measurement, largest: the names, in QuPath, of a tile's score01 and of a region's largest score01.
    label, rank_label: what the colour bar of a heatmap says about score01, and about ranks.
    label_within: the same about `scale`, which is shown where the slide has no probability.
    format_version: of the files whose names depend on the kind.
    """

    name: str
    scale: Callable[[Scores], Scores]
    is_probability: bool
    lowest: float
    highest: float
    column: str
    measurement: str
    largest: str
    label: str
    rank_label: str
    label_within: str
    format_version: int

    def __post_init__(self) -> None:
        where = f"score kind {self.name!r}"
        for field in ("name", "column", "measurement", "largest", "label", "rank_label", "label_within"):
            require_name(getattr(self, field), where, field)
        require(callable(self.scale), where, "scale", "a function of scores (N,)", self.scale)
        require(self.lowest < self.highest, where, "lowest", f"below highest, {self.highest}", self.lowest)
        for field in ("column", "measurement", "largest"):
            named = getattr(self, field)
            valid = self.is_probability or "prob" not in named
            require(valid, where, field, "without 'prob' where score01 is no probability", named)
        require(self.format_version >= 1, where, "format_version", "1 or more", self.format_version)

    @property
    def of_predictions(self) -> str:
        """The name of the kind that such scores have if the task is not detection.

        There, logits and probabilities are outputs without a common scale.
        """
        return "value" if self.is_probability else self.name

    def score01(self, scores: Scores, slide_probability: float) -> Scores:
        """Return the score01 of the tiles of one slide (N,): from 0 to 1, NaN stays NaN.

        slide_probability: that of the positive classes, the second factor of attention; NaN for tasks other
        than detection, whose slides have none.

        >>> score_kind("attention").score01(np.array([0.1, 0.4]), slide_probability=0.5).tolist()
        [0.125, 0.5]
        """
        within = self.scale(scores)
        return within if self.is_probability or math.isnan(slide_probability) else within * slide_probability

    def comparable(self, scores: Scores, slide_probability: float) -> Scores:
        """Return the scores of one slide (N,) so that they can be ranked together with those of other slides.

        Logits and probabilities stay as they are: the sigmoid of two large logits may be the same number. Of
        other kinds it is score01.

        >>> score_kind("logit").comparable(np.array([40.0, 50.0]), slide_probability=1.0).tolist()
        [40.0, 50.0]
        """
        return scores if self.is_probability else self.score01(scores, slide_probability)


def _probability_kind(
    name: str, scale: Callable[[Scores], Scores], lowest: float, highest: float
) -> ScoreKind:
    return ScoreKind(
        name=name,
        scale=scale,
        is_probability=True,
        lowest=lowest,
        highest=highest,
        column="probability",
        measurement="prob_tumor",
        largest="max_prob",
        label="tile probability",
        rank_label="tile probability, rank among the slide's tiles",
        label_within="tile probability",
        format_version=1,
    )


_ATTENTION = ScoreKind(
    name="attention",
    scale=_fraction_of_largest,
    is_probability=False,
    lowest=0.0,
    highest=1.0,
    column="score01",
    measurement="score01",
    largest="max_score01",
    label="attention / largest of the slide x its probability",
    rank_label="attention, rank among the slide's tiles",
    label_within="attention / largest of the slide",
    format_version=3,  # 2: without the slide's probability
)
_VALUE = ScoreKind(  # an output of a task other than detection: it has no common scale
    name="value",
    scale=ranks,
    is_probability=False,
    lowest=-math.inf,
    highest=math.inf,
    column="score01",
    measurement="score_rank",
    largest="max_score01",
    label="output, rank among the slide's tiles",
    rank_label="output, rank among the slide's tiles",
    label_within="output, rank among the slide's tiles",
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


def require_second_kind(where: str, kind: str, second_kind: str, scores: object) -> None:
    """Raise DataError unless there is no second score, or exactly one of the two is attention.

    where: the record, for the message. scores: the second scores, None if there are none.
    """
    attention = _ATTENTION.name
    others = [name for name in SCORE_KINDS if name != attention] if kind == attention else [attention]
    valid = second_kind in ("", *others)
    require(valid, where, "second_kind", f"one of {', '.join(others)} beside {kind}", second_kind)
    valid = (second_kind != "") == (scores is not None)
    require(valid, where, "second_scores", "given together with second_kind, and only then", scores)
