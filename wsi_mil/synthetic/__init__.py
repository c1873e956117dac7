"""Synthetic H&E-like slides whose truth is exact: whole studies without any download."""

from wsi_mil.synthetic.anatomy import Anatomy, draw_anatomy
from wsi_mil.synthetic.cohort import SlidePlan, SynthSpec, plan_cohort, write_cohort
from wsi_mil.synthetic.painting import Scanner, paint

__all__ = [
    "Anatomy",
    "Scanner",
    "SlidePlan",
    "SynthSpec",
    "draw_anatomy",
    "paint",
    "plan_cohort",
    "write_cohort",
]
