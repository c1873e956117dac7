"""What metrics are computed from: the slides of one model with truth and scores. There is one class per
level.

Each class has the columns that `wsi_mil.evaluation.table.COLUMNS` lists for its level, and returns them for
any selection of slides, as a bootstrap needs them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import DataError
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.pixel_metrics import PixelCounts, pooled_counts
from wsi_mil.evaluation.spec import FrocMode
from wsi_mil.evaluation.table import Level

Rows = NDArray[np.intp]


class Observations(ABC):
    """Slides of one model at one level."""

    level: ClassVar[Level]

    @property
    @abstractmethod
    def groups(self) -> Sequence[str]:
        """The group (patient) of each slide: a bootstrap draws whole groups."""

    @property
    @abstractmethod
    def score_kind(self) -> str:
        """What the scores are.

        Of slides probability, value or risk; of tiles attention, logit or probability.
        """

    @property
    @abstractmethod
    def n(self) -> int:
        """How many slides, tiles or lesions there are."""

    @abstractmethod
    def column(self, name: str, rows: Rows) -> object:
        """Return one of the level's columns for the slides `rows`; None if it is not known."""

    @abstractmethod
    def contents(self) -> str:
        """Return what the slides hold, in a few words: the reason of an undefined metric quotes it."""

    def everything(self) -> Rows:
        """Return the numbers of all slides."""
        return np.arange(len(self.groups))


@final
@dataclass(frozen=True)
class SlideObservations(Observations):
    """Slides (n,) with one score each. targets: only ordinal, regression and survival metrics need them."""

    patients: tuple[str, ...]
    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]
    called: NDArray[np.bool_]
    kind: str = "probability"
    targets: NDArray[np.float64] | None = None

    level: ClassVar[Level] = "slide"

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.patients, self.truth, self.scores, self.called)}
        if len(lengths) != 1:
            raise DataError(f"slide columns must be of one length, got lengths {sorted(lengths)}")

    @property
    def groups(self) -> Sequence[str]:
        return self.patients

    @property
    def score_kind(self) -> str:
        return self.kind

    @property
    def n(self) -> int:
        return len(self.truth)

    def column(self, name: str, rows: Rows) -> object:
        values = {"truth": self.truth, "scores": self.scores, "called": self.called, "targets": self.targets}
        found = values[name]
        return None if found is None else found[rows]

    def contents(self) -> str:
        return f"{int(self.truth.sum())} positive of {self.n} slides"


@final
@dataclass(frozen=True)
class LabelledTiles:
    """Scores and truth of the tiles (N,) of one slide; NaN is the score of a tile that could not be read.

    called: whether the model calls the tile tumour. score_kind: attention, logit or probability.
    """

    slide_id: str
    group: str
    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]
    called: NDArray[np.bool_]
    score_kind: str = "probability"

    def readable(self) -> "LabelledTiles":
        """Return the tiles that have a score."""
        finite = np.isfinite(self.scores)
        return replace(self, truth=self.truth[finite], scores=self.scores[finite], called=self.called[finite])


@final
@dataclass(frozen=True)
class PatchObservations(Observations):
    """The tiles of slides, all readable; the columns of several slides are joined."""

    slides: tuple[LabelledTiles, ...]

    level: ClassVar[Level] = "patch"

    @property
    def groups(self) -> Sequence[str]:
        return [slide.group for slide in self.slides]

    @property
    def score_kind(self) -> str:
        return " and ".join(sorted({slide.score_kind for slide in self.slides})) or "probability"

    @property
    def n(self) -> int:
        return sum(len(slide.truth) for slide in self.slides)

    @property
    def n_positive(self) -> int:
        return int(sum(slide.truth.sum() for slide in self.slides))

    def column(self, name: str, rows: Rows) -> object:
        parts = [getattr(self.slides[row], name) for row in rows]
        return np.concatenate(parts) if parts else np.empty(0)

    def contents(self) -> str:
        return f"{self.n_positive} of {self.n} tiles on lesions"


@final
@dataclass(frozen=True)
class LesionObservations(Observations):
    """The matches of detections and lesions on each slide."""

    patients: tuple[str, ...]
    matches: tuple[Matches, ...]
    mode: FrocMode = "official"

    level: ClassVar[Level] = "lesion"

    @property
    def groups(self) -> Sequence[str]:
        return self.patients

    @property
    def score_kind(self) -> str:
        return "probability"

    @property
    def n(self) -> int:
        return sum(slide.n_lesions for slide in self.matches)

    def column(self, name: str, rows: Rows) -> object:
        return self.mode if name == "froc_mode" else [self.matches[row] for row in rows]

    def contents(self) -> str:
        return f"{self.n} lesions on {len(self.matches)} slides"


@final
@dataclass(frozen=True)
class PixelObservations(Observations):
    """Pixel counts of each slide at one threshold, weighed by area."""

    patients: tuple[str, ...]
    counts: tuple[PixelCounts, ...]

    level: ClassVar[Level] = "pixel"

    @property
    def groups(self) -> Sequence[str]:
        return self.patients

    @property
    def score_kind(self) -> str:
        return "probability"

    @property
    def n(self) -> int:
        return len(self.counts)

    def column(self, name: str, rows: Rows) -> object:
        return pooled_counts([self.counts[row] for row in rows])

    def contents(self) -> str:
        return f"neither tumour nor a call on {self.n} slides"
