"""The held-out slides of a run with their truth: what every metric and every comparison of models starts from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import ATTENTION_THRESHOLD, Detection, SlideScoreRow, SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.evaluation import evaluation_mask, match_detections, tile_overlap
from wsi_mil.evaluation.detections import detections_of
from wsi_mil.evaluation.froc import LesionFound, Matches
from wsi_mil.evaluation.froc_polygons import lesion_regions, major_axis, match_in_regions
from wsi_mil.evaluation.patch_metrics import LabelledTiles, tile_centres
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.raster import rasterize


@dataclass(frozen=True)
class HeldOutSlide:
    """One slide whose truth is known: its tiles, the points that claim a lesion, and what these matched.

    `threshold`: from which tile probability on the model says tumour (attention: half of the largest weight).
    """

    slide_id: str
    patient: str
    fold: int
    tiles: LabelledTiles
    detections: tuple[Detection, ...]
    matches: Matches
    lesions: tuple[LesionFound, ...]
    threshold: float


def held_out_slide(
    row: SlideScoreRow,
    info: SlideInfo,
    table: TileTable,
    scores: SlideScores,
    lesions: Sequence[Lesion],
    spec: EvaluationSpec,
) -> HeldOutSlide:
    """Return what one slide contributes to patch metrics and FROC. `row`: of slides.parquet."""
    slide_id = row.slide_id
    if spec.patch_truth == "centre":
        truth = tile_centres(table, lesions)
    else:
        truth = tile_overlap(table, lesions) >= spec.patch_overlap
    values = comparable_scores(scores)
    tiles = LabelledTiles(slide_id, row.patient, truth, values, _predicted(scores, row.threshold))
    detections = detections_of(scores, table, spec)
    matches, found = match_slide(detections, info, lesions, spec)
    threshold = ATTENTION_THRESHOLD if scores.score_kind == "attention" else row.threshold
    return HeldOutSlide(
        slide_id, row.patient, row.fold, tiles, tuple(detections), matches, found, float(threshold)
    )


def comparable_scores(scores: SlideScores) -> np.ndarray:
    """Tile scores that may be pooled over slides: logits and probabilities as they are; attention, which sums to 1 in
    each slide, divided by its largest weight."""
    values = scores.tile_probabilities() if scores.score_kind == "attention" else scores.tile_scores
    return np.asarray(values, np.float64)


def _predicted(scores: SlideScores, threshold: float) -> np.ndarray:
    """Which tiles the model calls tumour: probability from the slide's threshold on, which validation slides chose;
    attention, which is no probability: more than an equal share."""
    if scores.score_kind == "attention":
        return scores.tile_scores > 1 / max(int(np.isfinite(scores.tile_scores).sum()), 1)
    return scores.tile_probabilities() >= threshold


def match_slide(
    detections: Sequence[Detection], info: SlideInfo, lesions: Sequence[Lesion], spec: EvaluationSpec
) -> tuple[Matches, tuple[LesionFound, ...]]:
    """Return the FROC matches of one slide, on a mask of the asked scale or on polygons, and its
    lesions as FROC counts them."""
    if spec.froc_truth == "polygons":
        points = [(d.probability, d.x0_px * info.mpp_x, d.y0_px * info.mpp_y) for d in detections]
        regions = lesion_regions(lesions, info.mpp_x, info.mpp_y, spec.isolated_below_um) if lesions else None
        matches = match_in_regions(points, regions, info.slide_id)
        if regions is None:
            return matches, ()
        places = [
            (region.centroid.x / info.mpp_x, region.centroid.y / info.mpp_y) for region in regions.regions
        ]
        lengths_um = [major_axis(region) for region in regions.regions]
        return matches, _described(info.slide_id, places, lengths_um, regions.isolated, matches)
    scale_x, scale_y = spec.froc_mask_mpp / info.mpp_x, spec.froc_mask_mpp / info.mpp_y
    points = [(d.probability, d.y0_px / scale_y, d.x0_px / scale_x) for d in detections]
    if not lesions:
        return match_detections(points, None, info.slide_id), ()
    shape = (math.ceil(info.height_px / scale_y), math.ceil(info.width_px / scale_x))
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    tumour = rasterize(area, shape, scale_x, scale_y)
    mask = evaluation_mask(tumour, spec.froc_mask_mpp, spec.froc_mode, isolated_um=spec.isolated_below_um)
    matches = match_detections(points, mask, info.slide_id)
    places = [((column + 0.5) * scale_x, (row + 0.5) * scale_y) for row, column in mask.centres_px]
    isolated = [number in mask.isolated for number in range(1, len(mask.axes_px) + 1)]
    return matches, _described(
        info.slide_id, places, [axis * mask.mpp for axis in mask.axes_px], isolated, matches
    )


def _described(
    slide_id: str,
    places: Sequence[tuple[float, float]],
    lengths_um: Sequence[float],
    isolated: Sequence[bool],
    matches: Matches,
) -> tuple[LesionFound, ...]:
    # the phantom of an empty mask has a place among the probabilities, but is no lesion
    rows = zip(places, lengths_um, isolated, matches.true_positives[: len(places)], strict=True)
    return tuple(LesionFound(slide_id, x, y, length, alone, best) for (x, y), length, alone, best in rows)
