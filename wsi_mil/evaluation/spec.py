"""Settings of the evaluation."""

from typing import Literal

from pydantic import Field

from wsi_mil.contracts.scores import DetectionMethod
from wsi_mil.contracts.spec import Spec

FrocMode = Literal["official", "corrected"]


class EvaluationSpec(Spec):
    """How scores are compared with the truth.

    patch_truth: a tile is positive if at least the fraction `patch_overlap` of its area ("overlap") or its
    centre ("centre") lies in a lesion. detections: those of FROC, from tiles above `min_probability`;
    `maxima` that are more than `detection_radius_um` apart, mean centres of connected `components`, or all
    `tiles`.
    froc_mode, froc_truth: see docs/contracts.md ("FROC"). isolated_below_um: lesions with a shorter major
    axis are isolated tumour cells; FROC counts them neither as found nor as missed.
    """

    patch_truth: Literal["overlap", "centre"] = "overlap"
    patch_overlap: float = Field(default=0.5, gt=0, le=1)
    detection_radius_um: float = Field(default=150.0, gt=0)
    min_probability: float = Field(default=0.05, ge=0, lt=1)
    detections: DetectionMethod = "maxima"
    froc_mode: FrocMode = "official"
    froc_truth: Literal["mask", "polygons"] = "mask"
    froc_mask_mpp: float = Field(
        default=7.776,
        gt=0,
        description="µm per pixel of the evaluation mask: level 5 of a slide of 0.243 µm/px",
    )
    isolated_below_um: float = Field(
        default=275.0, ge=0, description="the challenge's 275; 0: every lesion counts"
    )
    bootstrap: int = Field(default=1000, ge=0)
    seed: int = 0
