"""What is known of one slide before anything is learnt."""

from dataclasses import dataclass
from typing import Literal

TaskKind = Literal["detection", "classification", "ordinal", "regression", "survival"]
"""What a label means: see `wsi_mil.tasks`."""


@dataclass(frozen=True)
class SlideLabel:
    """`label`: the class index, None where the slide is not labelled; `mpp`: an override in µm/px."""

    slide_id: str
    label: int | None
    patient: str
    centre: str = ""
    split: str = ""
    mpp: float | tuple[float, float] | None = None
