"""How scores are held against the truth."""

from pydantic import Field

from wsi_mil.contracts.spec import Spec


class EvaluationSpec(Spec):
    """A tile is positive if at least `patch_overlap` of its area lies in a lesion. Detections for FROC: local maxima of
    the tile probability above `min_probability`, at least `detection_radius_um` apart."""

    patch_overlap: float = Field(0.5, gt=0, le=1)
    detection_radius_um: float = Field(150.0, gt=0)
    min_probability: float = Field(0.05, ge=0, lt=1)
    bootstrap: int = Field(1000, ge=0)
    seed: int = 0
