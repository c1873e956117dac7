"""The base of tasks whose labels are classes."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from wsi_mil.contracts.labels import LabelScheme, Target
from wsi_mil.errors import ConfigError
from wsi_mil.tasks.base import Cells, ClassLoss, Head, Reading, Task

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClassTask(Task):
    """The column `label` holds class names or numbers; sorted, they are the indices 0, 1, ...

    scheme: which classes are positive, and how that was decided; see `wsi_mil.tasks.scheme`.
    """

    scheme: LabelScheme | None = field(default=None, repr=False)

    columns: ClassVar[tuple[str, ...]] = ("label",)
    reading: ClassVar[Reading] = "probability"
    merit: ClassVar[str] = "auc"

    @property
    def labels(self) -> LabelScheme:
        """Which classes are positive; by default none."""
        return self.scheme or LabelScheme(self.class_names, (), (), f"task {self.kind} has no normal class")

    @classmethod
    def of(cls, classes: int) -> Self:
        """Return the task with this number of classes, which are named by their indices."""
        return cls(tuple(map(str, range(classes))))

    @classmethod
    def for_table(cls, cells: Sequence[Cells], class_names: tuple[str, ...] | None, **params: object) -> Self:
        if params:
            raise ConfigError(f"task.params: {cls.__name__.lower()} has no settings, got {sorted(params)}")
        found = sorted({row["label"] for row in cells if row["label"]}, key=label_order)
        return cls(class_names or tuple(found))

    def problems(self, cells: Sequence[Cells]) -> list[str]:
        found = sorted({row["label"] for row in cells if row["label"]}, key=label_order)
        names = list(self.class_names)
        return [f"label {label!r} is none of {names}" for label in found if label not in names]

    def encode(self, cells: Cells) -> int | None:
        return self.class_names.index(cells["label"]) if cells["label"] in self.class_names else None

    def lacking(self, targets: Sequence[Target]) -> str:
        return "lacks a class" if len(set(targets)) < 2 else ""

    def strata(self, targets: Sequence[Target]) -> list[int]:
        return [class_index(target) for target in targets]

    @abstractmethod
    def n_outputs(self, own: int, head: Head) -> int: ...

    def losses(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        from wsi_mil.tasks.losses import class_losses

        return class_losses(logits, targets, form)

    def loss(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        from wsi_mil.tasks.losses import class_losses

        return class_losses(logits, targets, form, "mean")

    def predict(self, logits: "Tensor") -> "Tensor":
        from wsi_mil.tasks.losses import class_probabilities

        return class_probabilities(logits)

    def measures(self, predictions: "Tensor", targets: Sequence[Target]) -> dict[str, float]:
        import torch

        labels = [class_index(target) for target in targets]
        return {
            "auc": macro_auc(predictions, labels),
            "accuracy": float((predictions.argmax(1) == torch.tensor(labels)).double().mean()),
        }


def class_index(target: Target) -> int:
    """Return the target of a task with classes as the class index. Raises TypeError for the target of
    another task."""
    if not isinstance(target, int):
        raise TypeError(f"expected a class index, got {target!r}")
    return target


def macro_auc(probabilities: "Tensor", labels: Sequence[int]) -> float:
    """Return the ROC AUC of class probabilities (B, C), of each class against the others, averaged over
    classes.

    A class that all slides have, or none, is left out; NaN if no class is left. Two classes: the AUC of the
    second.

    >>> import torch
    >>> macro_auc(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), [0, 1])
    1.0
    """
    from sklearn.metrics import roc_auc_score

    classes = [1] if probabilities.shape[1] == 2 else list(range(probabilities.shape[1]))
    found = []
    for k in classes:
        truth = [int(label == k) for label in labels]
        if 0 < sum(truth) < len(truth):
            found.append(float(roc_auc_score(truth, probabilities[:, k].numpy())))
    return sum(found) / len(found) if found else math.nan


def label_order(label: str) -> tuple[bool, float, str]:
    """Return the key that sorts labels: numbers by value, then words by letter.

    >>> sorted(["b", "10", "2"], key=label_order)
    ['2', '10', 'b']
    """
    try:
        return (False, float(label), label)
    except ValueError:
        return (True, 0.0, label)
