"""Robustness: does a model see tumour, or a shortcut? Poison on slides, tests of aggregators, interventions on trained models."""

from typing import TYPE_CHECKING

from wsi_mil.lazy import lazy_door
from wsi_mil.robustness.poison.spec import PoisonSpec

if TYPE_CHECKING:
    from wsi_mil.robustness.poison.plan import PoisonPlan, plan_poison
    from wsi_mil.robustness.poison.slide import PoisonedSlide, poison_slide

__getattr__ = lazy_door(
    __name__,
    {
        "PoisonPlan": "poison.plan",
        "PoisonedSlide": "poison.slide",
        "plan_poison": "poison.plan",
        "poison_slide": "poison.slide",
    },
)
__all__ = ["PoisonPlan", "PoisonSpec", "PoisonedSlide", "plan_poison", "poison_slide"]
