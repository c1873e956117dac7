"""Classification: classes of which none is normal, such as two subtypes of a tumour."""

from dataclasses import dataclass
from typing import ClassVar

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.errors import ConfigError
from wsi_mil.tasks.base import Head
from wsi_mil.tasks.classes import ClassTask


@dataclass(frozen=True)
class Classification(ClassTask):
    """One output for each class, also for two classes: evidence of one class is not lack of evidence of the
    other.

    >>> Classification.of(2).n_outputs(own=1, head="auto")
    2
    """

    kind: ClassVar[TaskKind] = "classification"

    def n_outputs(self, own: int, head: Head) -> int:
        if head == "sigmoid":
            raise ConfigError(
                "train.head=sigmoid: classification has one output per class: leave it at 'auto'"
            )
        return len(self.class_names)


TASK = Classification
