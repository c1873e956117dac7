"""Detection: a normal class, and classes in which something was found. The main use of this program."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.tasks.base import Head
from wsi_mil.tasks.classes import ClassTask

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Detection(ClassTask):
    """The first class is the normal one; every other class is positive.

    Two classes: one sigmoid output, or two softmax outputs where the method was published so. More classes:
    one output for each.

    >>> Detection.of(2).n_outputs(own=1, head="auto"), Detection.of(5).n_outputs(own=1, head="auto")
    (1, 5)
    """

    kind: ClassVar[TaskKind] = "detection"
    normal_class: ClassVar[bool] = True

    def n_outputs(self, own: int, head: Head) -> int:
        classes = len(self.class_names)
        if classes > 2 or head == "softmax":
            return classes
        return own if head == "auto" else 1

    def finding(self, targets: "Tensor") -> "Tensor":
        return targets > 0


TASK = Detection
