"""Detection: a normal class, and classes in which something was found. The main use of this program."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from wsi_mil.contracts.labels import LabelScheme, TaskKind
from wsi_mil.tasks.base import Head
from wsi_mil.tasks.classes import ClassTask

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Detection(ClassTask):
    """The negative classes come first; every other class is positive. `scheme` says which; without one, the
    first class is the negative one.

    Two classes: one sigmoid output, or two softmax outputs where the method was published so. More classes:
    one output for each.

    >>> Detection.of(2).n_outputs(own=1, head="auto"), Detection.of(5).n_outputs(own=1, head="auto")
    (1, 5)
    """

    kind: ClassVar[TaskKind] = "detection"

    @property
    def labels(self) -> LabelScheme:
        return self.scheme or LabelScheme.first_is_negative(self.class_names)

    @property
    def negative_classes(self) -> int:
        return max(len(self.labels.negative), 1)

    def n_outputs(self, own: int, head: Head) -> int:
        classes = len(self.class_names)
        if classes > 2 or head == "softmax":
            return classes
        return own if head == "auto" else 1

    def finding(self, targets: "Tensor") -> "Tensor":
        return targets >= self.negative_classes


TASK = Detection
