"""Slides of one model with predictions and targets, for the metrics of all tasks but detection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.labels import Target
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError
from wsi_mil.evaluation.observations import Observations, Rows
from wsi_mil.evaluation.table import Level

Reading = str
"""What a prediction is: "probability" (of classes), "value" or "risk", as `Task.reading` says."""


@final
@dataclass(frozen=True)
class PredictedSlides(Observations):
    """Slides (n,) with a prediction each.

    predictions (n,): the index of the most probable class, a value or a risk.
    targets (n,): class index or value; (n, 2): time, and 1 for an event or 0 for censored.
    class_probabilities (n, classes): None for tasks without classes.
    """

    patients: tuple[str, ...]
    targets: NDArray[np.float64]
    predictions: NDArray[np.float64]
    class_probabilities: NDArray[np.float64] | None
    reading: Reading

    level: ClassVar[Level] = "slide"

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.patients, self.targets, self.predictions)}
        if len(lengths) != 1:
            raise DataError(f"slide columns must be of one length, got lengths {sorted(lengths)}")

    @classmethod
    def of(
        cls,
        patients: Sequence[str],
        targets: Sequence[Target],
        predictions: Sequence[float],
        class_probabilities: Sequence[Sequence[float]],
        reading: Reading,
    ) -> Self:
        """Return the slides of plain lists, one entry per slide.

        >>> PredictedSlides.of(["p"], [(12.0, 1.0)], [0.3], [()], "risk").targets
        array([[12.,  1.]])
        """
        probabilities = np.array(class_probabilities, np.float64) if any(class_probabilities) else None
        return cls(
            tuple(patients),
            np.array(targets, np.float64),
            np.array(predictions, np.float64),
            probabilities,
            reading,
        )

    @property
    def groups(self) -> Sequence[str]:
        return self.patients

    @property
    def score_kind(self) -> str:
        return self.reading

    @property
    def n(self) -> int:
        return len(self.predictions)

    def column(self, name: str, rows: Rows) -> object:
        columns = {
            "targets": self.targets,
            "scores": self.predictions,
            "class_probabilities": self.class_probabilities,
        }
        found = columns.get(name)
        return None if found is None else found[rows]

    def contents(self) -> str:
        if self.targets.ndim == 2:
            return f"{int(self.targets[:, 1].sum())} events of {self.n} slides"
        return f"{len(np.unique(self.targets))} different labels of {self.n} slides"


def observe_predictions(rows: Sequence[SlideScoreRow], reading: Reading) -> PredictedSlides:
    """Return the labelled slides of slides.parquet. Raises DataError if a label or prediction is missing."""
    for row in rows:
        if row.prediction is None or not row.target:
            raise DataError(
                f"slide {row.slide_id!r} has no label or no prediction: run `wsi-mil score` again"
            )
    return PredictedSlides.of(
        [row.patient for row in rows],
        [row.target[0] if len(row.target) == 1 else (row.target[0], row.target[1]) for row in rows],
        [row.shown for row in rows],
        [row.class_probabilities for row in rows],
        reading,
    )
