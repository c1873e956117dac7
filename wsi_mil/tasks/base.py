"""The interface of a task: from the cell of a label table to the number that a person reads."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from wsi_mil.contracts.labels import LabelScheme, Target, TaskKind

if TYPE_CHECKING:
    from torch import Tensor

ClassLoss = Literal["softmax", "one_vs_rest", "clamped"]
"""How a method compares several classes: see `wsi_mil.tasks.losses.class_losses`. Other tasks have one
loss."""
Head = Literal["auto", "sigmoid", "softmax"]
Reading = Literal["probability", "value", "risk"]
Cells = Mapping[str, str]
"""The cells of one row of the label table, by the names in `Task.columns`."""


@dataclass(frozen=True)
class Task(ABC):
    """What a label means.

    `class_names`: in the order of their indices; empty for regression and survival.

    A task is immutable and small: it is pickled to worker processes and stored in model.json. What it has to
    learn from the training slides (the mean of a value, the limits of time intervals) is in fields that
    `fitted` fills.
    """

    class_names: tuple[str, ...] = ()

    kind: ClassVar[TaskKind]
    """The family of tasks: which metrics apply, and which aggregators support it."""
    columns: ClassVar[tuple[str, ...]]
    """The columns of the label table that the task reads; `task.columns` can give them other names."""
    reading: ClassVar[Reading]
    """What `predict` returns: class probabilities, a value in the unit of the label, or a risk without
    unit."""
    merit: ClassVar[str]
    """The measure that chooses the epoch to keep: the first one of `measures`. Larger is better."""
    compares_slides: ClassVar[bool] = False
    """Whether the loss of a slide depends on the other slides of the step (Cox)."""

    @property
    def labels(self) -> LabelScheme | None:
        """Which classes are positive; None for a task without classes."""
        return None

    @property
    def negative_classes(self) -> int:
        """How many classes, the first ones, mean that nothing was found; 0 without a normal class."""
        return 0

    def is_positive(self, label: int | None) -> bool:
        """Return whether a slide of this class index is positive; False without label or positive classes."""
        return label is not None and self.labels is not None and self.labels.is_positive(label)

    @classmethod
    @abstractmethod
    def for_table(cls, cells: Sequence[Cells], class_names: tuple[str, ...] | None, **params: object) -> Self:
        """Return the task of a label table. Raises ConfigError for params that the task does not have."""

    def problems(self, cells: Sequence[Cells]) -> list[str]:
        """Return what is wrong with the table as a whole, one line for each problem."""
        return []

    @abstractmethod
    def encode(self, cells: Cells) -> Target | None:
        """Return the target of a row; None if the row has no label. Raises ValueError with what was
        expected."""

    @abstractmethod
    def lacking(self, targets: Sequence[Target]) -> str:
        """Return why nothing can be learnt from these targets, such as "lacks a class"; "" if something
        can."""

    @abstractmethod
    def strata(self, targets: Sequence[Target]) -> list[int]:
        """Return the stratum of each slide: all parts of a split get the same mix of strata."""

    def fitted(self, targets: Sequence[Target]) -> Self:
        """Return the task with the statistics of the training targets filled in."""
        return self

    @abstractmethod
    def n_outputs(self, own: int, head: Head) -> int:
        """Return the number of outputs of a model. `own`: how many the method has for two classes, as
        published."""

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
        """Return (B,) whether something was found in each slide: if there is a normal class, whether it is
        another."""
        import torch

        return torch.ones(len(targets), dtype=torch.bool, device=targets.device)

    @abstractmethod
    def measures(self, predictions: "Tensor", targets: Sequence[Target]) -> dict[str, float]:
        """Return measures of `predict`'s predictions, `merit` first; NaN where undefined."""

    def text(self, number: float) -> str:
        """Return a target or a predicted number as people read it: the name of a class, or the number.

        >>> from wsi_mil.tasks import Detection
        >>> Detection(("normal", "tumour")).text(1)
        'tumour'
        """
        return self.class_names[int(number)] if self.class_names else f"{number:.6g}"


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a task in the form that one method takes. Aggregators receive it.

    weights: of each class, by which the loss of its rows is multiplied; () for none.

    >>> import torch
    >>> from wsi_mil.tasks import Detection
    >>> round(float(TaskLoss(Detection.of(2), "softmax")(torch.zeros(3, 1), torch.tensor([0, 1, 1]))), 4)
    0.6931
    """

    task: Task
    form: ClassLoss
    weights: tuple[float, ...] = ()

    def __call__(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the mean loss over the rows of logits (B, C)."""
        if self.weights:
            return self.each(logits, targets).mean()
        return self.task.loss(logits, targets, self.form)

    def each(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the loss (B,) of each row of logits (B, C)."""
        losses = self.task.losses(logits, targets, self.form)
        return losses * losses.new_tensor(self.weights)[targets.long()] if self.weights else losses
