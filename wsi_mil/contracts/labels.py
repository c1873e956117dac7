"""What is known of one slide before anything is learnt."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

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
class SlideLabel:
    """`label`: the class index; `value`: the number (regression) or (time, event) (survival).

    Both are None where the slide is not labelled. `mpp`: an override in µm/px.
    """

    slide_id: str
    label: int | None
    patient: str
    centre: str = ""
    split: str = ""
    mpp: float | tuple[float, float] | None = None
    value: float | tuple[float, float] | None = None

    @property
    def target(self) -> Target | None:
        """What a model is compared with; None where the slide is not labelled."""
        return self.label if self.value is None else self.value
