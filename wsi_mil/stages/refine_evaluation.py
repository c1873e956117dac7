"""Read the tile-level and the refined maps of held-out slides, compare both with outlines, and write refine.json."""

from collections.abc import Sequence

import numpy as np

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import ATTENTION_THRESHOLD, Detection, SlideScoreRow
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import WsiMilError
from wsi_mil.evaluation import AnnotationFolder, read_annotations
from wsi_mil.evaluation.detections import detections_of, find_in_raster, suspicion
from wsi_mil.evaluation.pixel_metrics import THRESHOLDS, pixel_counts
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import match_slide
from wsi_mil.heatmaps import score_raster
from wsi_mil.heatmaps.raster import ScoreRaster
from wsi_mil.heatmaps.refined import read_refined, refined_raster
from wsi_mil.io.files import write_json
from wsi_mil.logs import logger, progress
from wsi_mil.refine.evaluation import ComparedSlide, MapComparison, MapMeasures, compare_maps
from wsi_mil.run.current import check_scores, current_refined
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores, read_tile_scores

SMOOTH_UM = 24.0
"""Refined maps are smoothed over this length, a few cells, before detections: one bright nucleus is no lesion."""


def compare_refined(
    run: RunFolder, name: str, annotations: AnnotationFolder, spec: EvaluationSpec
) -> MapComparison:
    """Write evaluation/<name>/refine.json and return it: Dice and FROC on the test slides with and without refinement.

    Slides without label, current refined maps, or readable outlines of their tumour are left out. Raises DataError
    if no test slide is left.
    """
    slides = [slide for row in _rows(run, name) if (slide := _compared(run, name, row, annotations, spec))]
    found = compare_maps(name, slides, spec)
    write_json(run.evaluation(name) / "refine.json", found.as_json())
    return found


def _rows(run: RunFolder, name: str) -> Sequence[SlideScoreRow]:
    rows, _ = read_slide_scores(run.slide_scores(name))
    found = [row for row in rows if row.part in ("val", "test") and row.label is not None]
    return list(progress(found, total=len(found), label=f"compare {name}"))


def _compared(
    run: RunFolder, name: str, row: SlideScoreRow, annotations: AnnotationFolder, spec: EvaluationSpec
) -> ComparedSlide | None:
    """Return both maps of one slide, measured; None if its lesions or its refined maps are not known."""
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
    own = ATTENTION_THRESHOLD if scores.score_kind == "attention" else row.threshold
    maps = read_refined(run.refined(name, slide_id))
    tiles = score_raster(table, scores.tile_probabilities(), maps.pixels_per_stride(table))
    refined = refined_raster(table, suspicion(scores), maps, own)
    points = find_in_raster(
        slide_id,
        refined.values,
        (refined.scale_x_px, refined.scale_y_px),
        table,
        radius_um=spec.detection_radius_um,
        smooth_um=SMOOTH_UM,
        min_probability=spec.min_probability,
    )
    return ComparedSlide(
        slide_id=slide_id,
        patient=row.patient,
        part=row.part,
        own=own,
        model_digest=row.model_digest,
        tiles=_measures(tiles, detections_of(scores, table, spec), info, lesions, own, spec),
        refined=_measures(refined, points, info, lesions, own, spec),
    )


def _measures(
    raster: ScoreRaster,
    detections: Sequence[Detection],
    info: SlideInfo,
    lesions: Sequence[Lesion],
    own: float,
    spec: EvaluationSpec,
) -> MapMeasures:
    scale_px = raster.scale_x_px, raster.scale_y_px
    pixel_um2 = scale_px[0] * info.mpp_x * scale_px[1] * info.mpp_y
    counts = pixel_counts(raster.values, scale_px, lesions, np.array([*THRESHOLDS, own]), pixel_um2)
    return MapMeasures(counts, match_slide(detections, info, lesions, spec)[0])
