"""Scores of slides and tiles, and points that claim a lesion."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import DataError

DetectionMethod = Literal["maxima", "components", "tiles"]
ATTENTION_THRESHOLD = 0.5
"""Of the slide's largest weight: attention has no unit in which a threshold could be chosen."""


@dataclass(frozen=True)
class SlideScores:
    """One slide as one model sees it.

    probability: of the positive class (with more than two classes: of any class but the first).
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

    def __post_init__(self) -> None:
        if self.tile_scores.shape != (len(self.coords),):
            raise DataError(
                f"scores of {self.slide_id!r}: {self.tile_scores.shape} for {len(self.coords)} tiles"
            )
        if not 0 <= self.probability <= 1:
            raise DataError(f"scores of {self.slide_id!r}: probability {self.probability} is not in [0, 1]")

    def tile_probabilities(self) -> NDArray[np.float32]:
        """Return tile scores on [0, 1]: logits through the sigmoid, attention divided by its largest value.

        Only the first is a probability in the model's sense; attention is a ranking inside one slide.
        """
        scores = self.tile_scores.astype(np.float64)
        if self.score_kind == "logit":
            return (1 / (1 + np.exp(-np.clip(scores, -60, 60)))).astype(np.float32)
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
