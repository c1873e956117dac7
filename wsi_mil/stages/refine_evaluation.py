"""Is the pixel-level map better than the tile-level one? Dice and FROC of both, on the slides whose lesions are known."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.evaluation import AnnotationFolder, froc_curve, read_annotations
from wsi_mil.evaluation.detections import detections_of, find_in_raster
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.paired import paired_bootstrap
from wsi_mil.evaluation.pixel_metrics import THRESHOLDS, PixelCounts, pixel_counts, pooled_counts
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import match_slide
from wsi_mil.heatmaps import score_raster
from wsi_mil.heatmaps.refined import read_refined, refined_raster
from wsi_mil.io.files import write_json
from wsi_mil.io.json import without_nan
from wsi_mil.logs import logger, progress
from wsi_mil.run.current import check_scores, current_refined
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores, read_tile_scores

SMOOTH_UM = 24.0  # a few cells: one bright nucleus is no lesion
FORMS = ("tiles", "refined")


@dataclass(frozen=True)
class ComparedSlide:
    """One slide with known truth: pixel counts at all thresholds and FROC matches, of the tile-level and of the refined map.

    `own`: the model's threshold.
    """

    slide_id: str
    patient: str
    part: str
    own: float
    model_digest: str
    counts: dict[str, PixelCounts]
    matches: dict[str, Matches]


def compare_refined(
    run: RunFolder, name: str, annotations: AnnotationFolder, spec: EvaluationSpec
) -> dict[str, Any]:
    """Write evaluation/<name>/refine.json and return it: pixel Dice and FROC on the test slides, with and without refinement, and their
    difference with its interval over patients.

    Dice at the model's own threshold, and, if validation slides have outlines, at the one that gives the best Dice there.
    """
    slides = [slide for row in _rows(run, name) if (slide := _compared(run, name, row, annotations, spec))]
    test, validation = ([slide for slide in slides if slide.part == part] for part in ("test", "val"))
    if not test:
        raise DataError(
            f"refine: no test slide of {name!r} has a label, refined maps and, where there is tumour, outlines"
        )
    rng = np.random.default_rng(spec.seed)
    best = {form: _best_threshold(validation, form) for form in FORMS}
    patients = [slide.patient for slide in test]
    result: dict[str, Any] = {
        "kind": "refinement",
        "format_version": 1,
        "model": name,
        "model_digests": sorted({slide.model_digest for slide in test}),
        "test_slides": len(test),
        "validation_slides": len(validation),
        "thresholds": {"own": sorted({slide.own for slide in test}), "validation": best},
        "dice": {},
    }
    for rule, chosen in (("own", None), ("validation", best)):
        if chosen is not None and any(math.isnan(value) for value in chosen.values()):
            continue

        def dice(form: str, rows: np.ndarray, chosen: dict[str, float] | None = chosen) -> float:
            return pooled_dice([test[i] for i in rows], form, None if chosen is None else chosen[form])

        result["dice"][rule] = asdict(
            paired_bootstrap(
                lambda r: dice("refined", r), lambda r: dice("tiles", r), patients, rng, spec.bootstrap
            )
        )

    def froc(form: str, rows: np.ndarray) -> float:
        return froc_curve([test[i].matches[form] for i in rows], spec.froc_mode).score

    result["froc"] = asdict(
        paired_bootstrap(
            lambda r: froc("refined", r), lambda r: froc("tiles", r), patients, rng, spec.bootstrap
        )
    )
    found: dict[str, Any] = without_nan(result)
    write_json(run.evaluation(name) / "refine.json", found)
    return found


def _rows(run: RunFolder, name: str) -> Sequence[SlideScoreRow]:
    rows, _ = read_slide_scores(run.slide_scores(name))
    found = [row for row in rows if row.part in ("val", "test") and row.label is not None]
    return list(progress(found, total=len(found), label=f"compare {name}"))


def _compared(
    run: RunFolder, name: str, row: SlideScoreRow, annotations: AnnotationFolder, spec: EvaluationSpec
) -> ComparedSlide | None:
    slide_id = row.slide_id
    path = annotations.find(slide_id) if row.positive else None
    if (row.positive and path is None) or current_refined(run, name, row) is None:
        return None
    info, table = run.store(slide_id).read_info(), run.store(slide_id).read_tiles()
    scores = read_tile_scores(run.tile_scores(name, slide_id))
    check_scores(scores, table)
    try:
        lesions = read_annotations(path, slide_id, info, annotations.bounds) if path else []
    except WsiMilError as error:
        logger().warning("refine: %s is left out of Dice and FROC: %s", slide_id, error)
        return None
    own = scores.kind.threshold(row.threshold)
    refined, probabilities = read_refined(run.refined(name, slide_id)), scores.tile_scores01()
    rasters = {
        "tiles": score_raster(table, probabilities, refined.pixels_per_stride(table)),
        "refined": refined_raster(table, scores.suspicion(), refined, own),
    }
    thresholds = np.array([*THRESHOLDS, own])
    counts = {}
    for form, raster in rasters.items():
        area = raster.scale_x_px * info.mpp_x * raster.scale_y_px * info.mpp_y
        counts[form] = pixel_counts(
            raster.values, (raster.scale_x_px, raster.scale_y_px), lesions, thresholds, area
        )
    shown = rasters["refined"]
    points = find_in_raster(
        slide_id,
        shown.values,
        (shown.scale_x_px, shown.scale_y_px),
        table,
        radius_um=spec.detection_radius_um,
        smooth_um=SMOOTH_UM,
        min_probability=spec.min_probability,
    )
    detections = {"tiles": detections_of(scores, table, spec), "refined": points}
    matches = {form: match_slide(found, info, lesions, spec)[0] for form, found in detections.items()}
    return ComparedSlide(slide_id, row.patient, row.part, own, row.model_digest, counts, matches)


def pooled_dice(slides: Sequence[ComparedSlide], form: str, threshold: float | None) -> float:
    """Return the Dice of all slides' pixels together at `threshold` (of THRESHOLDS; None: the model's own)."""
    column = len(THRESHOLDS) if threshold is None else int(np.argmin(np.abs(THRESHOLDS - threshold)))
    return float(pooled_counts([slide.counts[form] for slide in slides]).dice()[column])


def _best_threshold(slides: Sequence[ComparedSlide], form: str) -> float:
    if not any(slide.counts[form].tumour for slide in slides):
        return math.nan
    curve = pooled_counts([slide.counts[form] for slide in slides]).dice()[: len(THRESHOLDS)]
    return float(THRESHOLDS[int(np.nanargmax(curve))])
