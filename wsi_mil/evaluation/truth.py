"""Test slides with their truth: the records from which patch and lesion metrics are computed.

Functions on arrays and records. `wsi_mil.run.held_out` reads the input from a run folder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import shapely

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import Detection, SlideScoreRow, SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.evaluation.detections import detections_of
from wsi_mil.evaluation.froc import LesionFound, Matches, evaluation_mask, match_detections
from wsi_mil.evaluation.froc_polygons import lesion_regions, major_axis, match_in_regions
from wsi_mil.evaluation.observations import LabelledTiles
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.tile_truth import tile_centres, tile_overlap
from wsi_mil.raster import rasterize


@dataclass(frozen=True)
class HeldOutSlide:
    """One slide whose lesions are known: its tiles, its detections, and which lesions these hit.

    fold: number of the model that scored it. threshold: the score01 from which on a tile or a detection
    counts as positive. second_tiles: the same tiles with their second scores; None of methods with one.
    Detections are those of the first.
    """

    slide_id: str
    patient: str
    fold: int
    tiles: LabelledTiles
    detections: tuple[Detection, ...]
    matches: Matches
    lesions: tuple[LesionFound, ...]
    threshold: float
    second_tiles: LabelledTiles | None = None


def held_out_slide(
    row: SlideScoreRow,
    info: SlideInfo,
    table: TileTable,
    scores: SlideScores,
    lesions: Sequence[Lesion],
    spec: EvaluationSpec,
) -> HeldOutSlide:
    """Return one slide, `row` of slides.parquet, with truth and matches for patch metrics and FROC.

    lesions: all lesions of the slide; none for a negative slide.
    """
    if spec.patch_truth == "centre":
        truth = tile_centres(table, lesions)
    else:
        truth = tile_overlap(table, lesions) >= spec.patch_overlap

    def labelled(of: SlideScores) -> LabelledTiles:
        values, called = of.comparable_scores(), of.called_tiles(row.threshold)
        return LabelledTiles(row.slide_id, row.patient, truth, values, called, of.score_kind)

    detections = detections_of(scores, table, spec)
    matches, found = match_slide(detections, info, lesions, spec)
    return HeldOutSlide(
        row.slide_id,
        row.patient,
        row.fold,
        labelled(scores),
        tuple(detections),
        matches,
        found,
        scores.tile_threshold(row.threshold),
        labelled(scores.second) if scores.second is not None else None,
    )


def match_slide(
    detections: Sequence[Detection], info: SlideInfo, lesions: Sequence[Lesion], spec: EvaluationSpec
) -> tuple[Matches, tuple[LesionFound, ...]]:
    """Return the matches of one slide's detections, and its lesions as FROC counts them.

    Lesions are a mask of `spec.froc_mask_mpp` µm per pixel or polygons, as `spec.froc_truth` says.
    """
    if spec.froc_truth == "polygons":
        return _match_polygons(detections, info, lesions, spec)
    scale_x, scale_y = spec.froc_mask_mpp / info.mpp_x, spec.froc_mask_mpp / info.mpp_y
    points = [(d.score01, d.y0_px / scale_y, d.x0_px / scale_x) for d in detections]
    if not lesions:
        return match_detections(points, None, info.slide_id), ()
    shape = (math.ceil(info.height_px / scale_y), math.ceil(info.width_px / scale_x))
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    tumour = rasterize(area, shape, scale_x, scale_y)
    mask = evaluation_mask(tumour, spec.froc_mask_mpp, spec.froc_mode, isolated_um=spec.isolated_below_um)
    matches = match_detections(points, mask, info.slide_id)
    places = [((column + 0.5) * scale_x, (row + 0.5) * scale_y) for row, column in mask.centres_px]
    isolated = [number in mask.isolated for number in range(1, len(mask.axes_px) + 1)]
    lengths_um = [axis * mask.mpp for axis in mask.axes_px]
    return matches, _described(info.slide_id, places, lengths_um, isolated, matches)


def _match_polygons(
    detections: Sequence[Detection], info: SlideInfo, lesions: Sequence[Lesion], spec: EvaluationSpec
) -> tuple[Matches, tuple[LesionFound, ...]]:
    points = [(d.score01, d.x0_px * info.mpp_x, d.y0_px * info.mpp_y) for d in detections]
    if not lesions:
        return match_in_regions(points, None, info.slide_id), ()
    regions = lesion_regions(lesions, info.mpp_x, info.mpp_y, spec.isolated_below_um)
    matches = match_in_regions(points, regions, info.slide_id)
    places = [(region.centroid.x / info.mpp_x, region.centroid.y / info.mpp_y) for region in regions.regions]
    lengths_um = [major_axis(region) for region in regions.regions]
    return matches, _described(info.slide_id, places, lengths_um, regions.isolated, matches)


def _described(
    slide_id: str,
    places: Sequence[tuple[float, float]],
    lengths_um: Sequence[float],
    isolated: Sequence[bool],
    matches: Matches,
) -> tuple[LesionFound, ...]:
    # in official mode an empty mask has a region that is no lesion: a true positive without a place
    rows = zip(places, lengths_um, isolated, matches.true_positives[: len(places)], strict=True)
    return tuple(LesionFound(slide_id, x, y, length, alone, best) for (x, y), length, alone, best in rows)
