from .poison.plan import PoisonPlan as PoisonPlan
from .poison.plan import plan_poison as plan_poison
from .poison.slide import PoisonedSlide as PoisonedSlide
from .poison.slide import poison_slide as poison_slide
from .poison.spec import PoisonSpec as PoisonSpec
