"""Regression: the label is a number, such as a proliferation index."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from wsi_mil.contracts.labels import Target, TaskKind
from wsi_mil.errors import ConfigError
from wsi_mil.tasks.base import Cells, ClassLoss, Head, Reading, Task
from wsi_mil.tasks.measures import mean_absolute_error, r_squared

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Regression(Task):
    """One output: the value in standard deviations of the training slides. The loss is the squared error in
    that unit.

    `mean`, `std`: of the training targets.

    >>> Regression().fitted([1.0, 3.0])
    Regression(class_names=(), mean=2.0, std=1.0)
    """

    mean: float = 0.0
    std: float = 1.0

    kind: ClassVar[TaskKind] = "regression"
    columns: ClassVar[tuple[str, ...]] = ("value",)
    reading: ClassVar[Reading] = "value"
    merit: ClassVar[str] = "r2"

    @classmethod
    def for_table(cls, cells: Sequence[Cells], class_names: tuple[str, ...] | None, **params: object) -> Self:
        refuse_settings("regression", class_names, params)
        return cls()

    def encode(self, cells: Cells) -> float | None:
        return number(cells, "value")

    def lacking(self, targets: Sequence[Target]) -> str:
        return "has one value only" if len(set(targets)) < 2 else ""

    def strata(self, targets: Sequence[Target]) -> list[int]:
        """Return 0 below the median and 1 from the median on."""
        values = [scalar(target) for target in targets]
        median = sorted(values)[len(values) // 2]
        return [int(value >= median) for value in values]

    def fitted(self, targets: Sequence[Target]) -> Self:
        values = [scalar(target) for target in targets]
        mean = sum(values) / len(values)
        std = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        return replace(self, mean=mean, std=std or 1.0)

    def n_outputs(self, own: int, head: Head) -> int:
        return 1

    def losses(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        return (logits[:, 0] - (targets.to(logits.dtype) - self.mean) / self.std).square()

    def predict(self, logits: "Tensor") -> "Tensor":
        return logits[:, :1] * self.std + self.mean

    def measures(self, predictions: "Tensor", targets: Sequence[Target]) -> dict[str, float]:
        truth, values = [scalar(target) for target in targets], predictions[:, 0].tolist()
        return {"r2": r_squared(truth, values), "mae": mean_absolute_error(truth, values)}


TASK = Regression


def refuse_settings(task: str, class_names: tuple[str, ...] | None, params: Mapping[str, object]) -> None:
    """Raise ConfigError for settings that a task without classes does not have."""
    if class_names:
        raise ConfigError(f"slides.class_names: task {task} has no classes: leave it out")
    if params:
        raise ConfigError(f"task.params: {task} has no settings, got {sorted(params)}")


def scalar(target: Target) -> float:
    """Return the target of regression as a number. Raises TypeError for (time, event)."""
    if isinstance(target, tuple):
        raise TypeError(f"expected a number, got {target!r}")
    return float(target)


def number(cells: Cells, column: str) -> float | None:
    """Return the number of a cell; None for an empty one. Raises ValueError for anything else."""
    if not cells.get(column):
        return None
    try:
        value = float(cells[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a number, got {cells[column]!r}")
    return value
