"""Robustness: does a model see tumour, or a shortcut? Poison on slides, tests of aggregators, interventions on trained models."""

from typing import TYPE_CHECKING

from wsi_mil.lazy import lazy_door
from wsi_mil.robustness.poison_spec import PoisonSpec

if TYPE_CHECKING:
    from wsi_mil.robustness.poison_plan import PoisonPlan, plan_poison
    from wsi_mil.robustness.poisoned_slide import PoisonedSlide, poison_slide

__getattr__ = lazy_door(
    __name__,
    {
        "PoisonPlan": "poison_plan",
        "PoisonedSlide": "poisoned_slide",
        "plan_poison": "poison_plan",
        "poison_slide": "poisoned_slide",
    },
)
__all__ = ["PoisonPlan", "PoisonSpec", "PoisonedSlide", "plan_poison", "poison_slide"]
