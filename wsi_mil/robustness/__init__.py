"""Robustness: does a model react to tumour, or to another signal that goes with the label?

`poison`: artificial signals painted on slides. `audit`: tests of an aggregator on generated bags, and changes to
the slides of a trained model. The runs that use them are in `wsi_mil.experiments`.
"""

from typing import TYPE_CHECKING

from wsi_mil.lazy import lazy_door

if TYPE_CHECKING:
    from wsi_mil.robustness.poison.plan import PoisonPlan, plan_poison
    from wsi_mil.robustness.poison.slide import PoisonedSlide, poison_slide
    from wsi_mil.robustness.poison.spec import PoisonSpec

__getattr__ = lazy_door(
    __name__,
    {
        "PoisonPlan": "poison.plan",
        "PoisonSpec": "poison.spec",
        "PoisonedSlide": "poison.slide",
        "plan_poison": "poison.plan",
        "poison_slide": "poison.slide",
    },
)
__all__ = ["PoisonPlan", "PoisonSpec", "PoisonedSlide", "plan_poison", "poison_slide"]
