"""What every task promises."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from wsi_mil.contracts.labels import Target, TaskKind

if TYPE_CHECKING:
    from torch import Tensor

ClassLoss = Literal["softmax", "one_vs_rest", "clamped"]
"""How a method compares several classes: see `wsi_mil.tasks.losses.class_loss`. Other tasks have one loss."""
Head = Literal["auto", "sigmoid", "softmax"]
Reading = Literal["probability", "value", "risk"]
Cells = Mapping[str, str]


@dataclass(frozen=True)
class Task(ABC):
    """What a label means, from the cell of a table to the number that a person reads.

    `class_names`: in the order of their indices; empty for regression and survival. A task is frozen and small: it
    travels to workers and into `model.json`. What it must learn from the training slides (a mean, limits of time) is
    in fields that `fitted` fills.
    """

    class_names: tuple[str, ...] = ()

    kind: ClassVar[TaskKind]
    columns: ClassVar[tuple[tuple[str, ...], ...]]
    """Columns of the label table, as alternatives: one of the groups must be there."""
    reading: ClassVar[Reading]
    """What `predict` returns: class probabilities, a value in the unit of the label, or a risk without unit."""
    normal_class: ClassVar[bool] = False
    """Whether the first class means that nothing was found."""
    compares_slides: ClassVar[bool] = False
    """Whether the loss of a slide depends on the other slides of the step (Cox)."""

    @classmethod
    @abstractmethod
    def for_table(cls, cells: Sequence[Cells], class_names: tuple[str, ...] | None, **params: object) -> Self:
        """Return the task of a label table. Raises ConfigError for params that the task does not have."""

    def problems(self, cells: Sequence[Cells]) -> list[str]:
        """Return what is wrong with the table as a whole."""
        return []

    @abstractmethod
    def encode(self, cells: Cells) -> Target | None:
        """Return the target of a row; None if the row has no label. Raises ValueError, which says what was expected."""

    @abstractmethod
    def lacking(self, targets: Sequence[Target]) -> str:
        """Return what these targets lack to be learnt from or measured, such as "lacks a class"; "" if nothing."""

    @abstractmethod
    def strata(self, targets: Sequence[Target]) -> list[int]:
        """Return the stratum of each slide: parts of a split get the same mix of strata."""

    def fitted(self, targets: Sequence[Target]) -> Self:
        """Return the task with what the training targets say."""
        return self

    @abstractmethod
    def n_outputs(self, own: int, head: Head) -> int:
        """Return the number of outputs. `own`: of the method for two classes, as published."""

    @abstractmethod
    def losses(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        """Return the loss (B,) of each row of logits (B, C). `targets`: (B,), of survival (B, 2)."""

    def loss(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        """Return the mean loss over the rows of logits (B, C)."""
        return self.losses(logits, targets, form).mean()

    @abstractmethod
    def predict(self, logits: "Tensor") -> "Tensor":
        """Return (B, classes) class probabilities, or (B, 1) values or risks, of logits (B, C)."""

    def finding(self, targets: "Tensor") -> "Tensor":
        """Return (B,) whether something was found in each slide: with a normal class, all slides but those of it."""
        import torch

        return torch.ones(len(targets), dtype=torch.bool, device=targets.device)

    @abstractmethod
    def measures(self, predictions: "Tensor", targets: Sequence[Target]) -> dict[str, float]:
        """Return measures of predictions; NaN where undefined. Of the first, larger is better: it chooses the epoch."""


@dataclass(frozen=True)
class TaskLoss:
    """A task's loss in the form that a method takes: what an aggregator is given.

    >>> import torch
    >>> from wsi_mil.tasks import Detection
    >>> round(float(TaskLoss(Detection.of(2), "softmax")(torch.zeros(3, 1), torch.tensor([0, 1, 1]))), 4)
    0.6931
    """

    task: Task
    form: ClassLoss

    def __call__(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the mean loss over the rows of logits (B, C)."""
        return self.task.loss(logits, targets, self.form)

    def each(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the loss (B,) of each row of logits (B, C)."""
        return self.task.losses(logits, targets, self.form)
