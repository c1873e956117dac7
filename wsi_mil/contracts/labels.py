"""What is known of one slide before a model is trained."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wsi_mil.contracts.record import Record, above_zero, require, require_name

TaskKind = Literal["detection", "classification", "ordinal", "regression", "survival"]
"""What a label means: see `wsi_mil.tasks`."""
Target: TypeAlias = int | float | tuple[float, float]
"""What a model is compared with: a class index, a number, or (time, 1 for an event and 0 for censored)."""


def is_positive(label: int) -> bool:
    """Return whether a class index is that of a positive class: any but the first, which is the normal class.

    >>> [is_positive(label) for label in (0, 1, 2)]
    [False, True, True]
    """
    return label > 0


@dataclass(frozen=True)
class SlideLabel(Record):
    """The label of one slide.

    label: the class index. value: the number (regression) or (time, event) (survival).
    Both are None where the slide is not labelled.
    mpp: µm per level-0 pixel, or (x, y), in place of what the slide's file says.
    """

    slide_id: str
    label: int | None
    patient: str
    centre: str = ""
    split: str = ""
    mpp: float | tuple[float, float] | None = None
    value: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        where = f"label of slide {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id")
        require(self.label is None or self.label >= 0, where, "label", "a class index from 0 on", self.label)
        mpp = self.mpp if isinstance(self.mpp, tuple) else (self.mpp,)
        valid = all(number is None or above_zero(number) for number in mpp)
        require(valid, where, "mpp", "positive", self.mpp)
        value = self.value if isinstance(self.value, tuple) else (self.value,)
        valid = all(number is None or math.isfinite(number) for number in value)
        require(valid, where, "value", "finite", self.value)

    @property
    def target(self) -> Target | None:
        """What a model is compared with; None where the slide is not labelled."""
        return self.label if self.value is None else self.value
