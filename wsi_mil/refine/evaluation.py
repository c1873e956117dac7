"""Are pixel-level maps better than tile scores? Dice and FROC of both on slides whose lesions are known.

Functions on arrays and records. `wsi_mil.stages.refine_evaluation` reads the slides of a run, and
`wsi_mil.refine.evaluation_file` writes the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import Detection, SlideScoreRow, SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import DataError
from wsi_mil.evaluation.detections import detections_of, find_in_raster
from wsi_mil.evaluation.froc import Matches, froc_curve
from wsi_mil.evaluation.intervals import Statistic
from wsi_mil.evaluation.paired import PairedDifference, paired_bootstrap
from wsi_mil.evaluation.pixel_metrics import THRESHOLDS, PixelCounts, pixel_counts, pooled_counts
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import match_slide
from wsi_mil.heatmaps import ScoreRaster, score_raster
from wsi_mil.heatmaps.refined import RefinedMaps, refined_raster

SMOOTH_UM = 24.0
"""Detections are sought in means over this distance, a few cells: one bright nucleus is no lesion."""


@dataclass(frozen=True)
class MapResult:
    """One kind of map of one slide against the outlines of its lesions.

    counts: pixel counts at every threshold of `THRESHOLDS`, then at the slide's own threshold (100 in all).
    matches: which lesions the detections in the map hit.
    """

    counts: PixelCounts
    matches: Matches

    def __post_init__(self) -> None:
        if len(self.counts.called) != len(THRESHOLDS) + 1:
            raise DataError(
                f"pixel counts must be for {len(THRESHOLDS) + 1} thresholds, got {len(self.counts.called)}"
            )


@dataclass(frozen=True)
class ComparedSlide:
    """A slide whose lesions are known, with its tile-level map and its refined map.

    part: "val" or "test". threshold: the slide model's own threshold of tile probabilities.
    """

    slide_id: str
    patient: str
    part: str
    threshold: float
    model_digest: str
    tiles: MapResult
    refined: MapResult


@dataclass(frozen=True)
class MapThresholds:
    """One threshold for tile-level maps and one for refined maps."""

    tiles: float
    refined: float


@dataclass(frozen=True)
class RefinementResult:
    """Pixel Dice and FROC of refined maps (`first`) and of tiles (`second`) on the test slides of one model.

    model_digests: of the slide models whose maps were compared. own_thresholds: of the slide models.
    validation_thresholds: those with the best Dice on validation slides; None if none of these has a lesion.
    dice_own: Dice at the own thresholds. dice_validation: at the validation thresholds, None without these.
    """

    model: str
    model_digests: tuple[str, ...]
    test_slides: int
    validation_slides: int
    own_thresholds: tuple[float, ...]
    validation_thresholds: MapThresholds | None
    dice_own: PairedDifference
    dice_validation: PairedDifference | None
    froc: PairedDifference

    def __post_init__(self) -> None:
        if (self.validation_thresholds is None) != (self.dice_validation is None):
            raise DataError(
                f"refinement of {self.model!r}: validation thresholds and the Dice at them belong together"
            )

    def titled(self) -> tuple[tuple[str, PairedDifference], ...]:
        """Return the differences with the titles that people read."""
        rows = (
            ("pixel Dice, the model's threshold", self.dice_own),
            ("pixel Dice, threshold of validation slides", self.dice_validation),
            ("FROC", self.froc),
        )
        return tuple((title, one) for title, one in rows if one is not None)


def compared_slide(
    row: SlideScoreRow,
    info: SlideInfo,
    table: TileTable,
    scores: SlideScores,
    maps: RefinedMaps,
    lesions: Sequence[Lesion],
    spec: EvaluationSpec,
) -> ComparedSlide:
    """Return both maps of one slide, `row` of slides.parquet, against its lesions.

    lesions: none for a normal slide. Both maps have the pixels of the refined one.
    """
    own = scores.tile_threshold(row.threshold)
    thresholds = np.array([*THRESHOLDS, own])
    tiles = score_raster(table, scores.tile_scores01(), maps.pixels_per_stride(table))
    refined = refined_raster(table, scores.tile_scores01(), maps, own)
    points = find_in_raster(
        row.slide_id,
        refined.values,
        (refined.scale_x_px, refined.scale_y_px),
        table,
        radius_um=spec.detection_radius_um,
        smooth_um=SMOOTH_UM,
        min_probability=spec.min_probability,
    )

    def result(raster: ScoreRaster, found: Sequence[Detection]) -> MapResult:
        scale = raster.scale_x_px, raster.scale_y_px
        pixel_um2 = scale[0] * info.mpp_x * scale[1] * info.mpp_y
        counts = pixel_counts(raster.values, scale, lesions, thresholds, pixel_um2)
        return MapResult(counts, match_slide(found, info, lesions, spec)[0])

    return ComparedSlide(
        row.slide_id,
        row.patient,
        row.part,
        own,
        row.model_digest,
        result(tiles, detections_of(scores, table, spec)),
        result(refined, points),
    )


def evaluate_refinement(
    model: str, slides: Sequence[ComparedSlide], spec: EvaluationSpec
) -> RefinementResult:
    """Return how refined maps compare with tiles on the test slides of `model`, with intervals over patients.

    Dice pools the pixels of all slides by area. Raises DataError if there is no test slide.
    """
    test, validation = ([slide for slide in slides if slide.part == part] for part in ("test", "val"))
    if not test:
        raise DataError(
            f"refine: no test slide of {model!r} has a label, refined maps and, if it is a tumour slide, "
            "outlines: see slides.labels, slides.annotations and refine.parts"
        )
    rng = np.random.default_rng(spec.seed)
    patients = [slide.patient for slide in test]
    best = best_thresholds(validation)

    def difference(refined: Statistic, tiles: Statistic) -> PairedDifference:
        return paired_bootstrap(refined, tiles, patients, rng, spec.bootstrap)

    def dice(of_refined: float | None, of_tiles: float | None) -> PairedDifference:
        return difference(
            lambda rows: pooled_dice([test[i].refined for i in rows], of_refined),
            lambda rows: pooled_dice([test[i].tiles for i in rows], of_tiles),
        )

    return RefinementResult(
        model=model,
        model_digests=tuple(sorted({slide.model_digest for slide in test})),
        test_slides=len(test),
        validation_slides=len(validation),
        own_thresholds=tuple(sorted({slide.threshold for slide in test})),
        validation_thresholds=best,
        # the three differences share one generator, so their order is part of what a seed means
        dice_own=dice(None, None),
        dice_validation=None if best is None else dice(best.refined, best.tiles),
        froc=difference(
            lambda rows: froc_curve([test[i].refined.matches for i in rows], spec.froc_mode).score,
            lambda rows: froc_curve([test[i].tiles.matches for i in rows], spec.froc_mode).score,
        ),
    )


def best_thresholds(slides: Sequence[ComparedSlide]) -> MapThresholds | None:
    """Return the thresholds of `THRESHOLDS` with the best pooled Dice; None if no slide has a lesion."""
    if not any(slide.tiles.counts.tumour for slide in slides):
        return None
    return MapThresholds(
        *(_best_threshold([getattr(slide, kind) for slide in slides]) for kind in ("tiles", "refined"))
    )


def _best_threshold(maps: Sequence[MapResult]) -> float:
    curve = pooled_counts([one.counts for one in maps]).dice()[: len(THRESHOLDS)]
    return float(THRESHOLDS[int(np.nanargmax(curve))])


def pooled_dice(maps: Sequence[MapResult], threshold: float | None) -> float:
    """Return the Dice of the pixels of all slides together; NaN if nothing is called and nothing is tumour.

    threshold: one of `THRESHOLDS`, the nearest is taken. None: each slide's own threshold.
    """
    column = len(THRESHOLDS) if threshold is None else int(np.argmin(np.abs(THRESHOLDS - threshold)))
    return float(pooled_counts([one.counts for one in maps]).dice()[column])
