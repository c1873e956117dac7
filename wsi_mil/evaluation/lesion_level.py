"""Lesion level: the FROC score, lesions found by size, false positives."""

from collections.abc import Sequence

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.evaluation.froc import FP_PER_SLIDE, froc_curve
from wsi_mil.evaluation.lesion_tables import false_positive_rows, found_by_size, lesion_rows
from wsi_mil.evaluation.measure import measure_all
from wsi_mil.evaluation.observations import LesionObservations
from wsi_mil.evaluation.results import FrocFacts, FrocResult
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import HeldOutSlide

DETECTIONS = {
    "maxima": "local maxima of the tiles' score01 > {spec.min_probability}, "
    "{spec.detection_radius_um:g} µm apart",
    "components": "centroids of connected tiles of score01 > {spec.min_probability}",
    "tiles": "every tile of score01 > {spec.min_probability}",
}


def observe_lesions(slides: Sequence[HeldOutSlide], spec: EvaluationSpec) -> LesionObservations:
    """Return what lesion metrics are computed from."""
    return LesionObservations(
        tuple(slide.patient for slide in slides), tuple(slide.matches for slide in slides), spec.froc_mode
    )


def froc_result(
    slides: Sequence[HeldOutSlide], spec: EvaluationSpec, *, model: str, task: TaskKind = "detection"
) -> FrocResult:
    """Return the results of a model at lesion level, over slides whose lesions are known."""
    data = observe_lesions(slides, spec)
    curve = froc_curve(data.matches, data.mode)
    facts = FrocFacts(
        sensitivity_at=dict(zip(map(str, FP_PER_SLIDE), curve.at, strict=True)),
        n_lesions=curve.n_lesions,
        n_slides=curve.n_slides,
        by_size=found_by_size(lesion_rows(slides)),
        false_positives_at_threshold=len(false_positive_rows(slides)),
        mode=spec.froc_mode,
        lesions=spec.froc_truth,
        mask_mpp=spec.froc_mask_mpp if spec.froc_truth == "mask" else None,
        isolated_below_um=spec.isolated_below_um,
        detections=DETECTIONS[spec.detections].format(spec=spec),
    )
    return FrocResult(measure_all(data, spec.seed, model, spec.bootstrap, task), facts)
