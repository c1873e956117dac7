"""Whether pixel-level maps are better than tile-level maps: Dice and FROC of both on slides with known lesions."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from wsi_mil.errors import DataError
from wsi_mil.evaluation import froc_curve
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.paired import PairedDifference, paired_bootstrap
from wsi_mil.evaluation.pixel_metrics import THRESHOLDS, PixelCounts, pooled_counts
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.io.json import without_nan

Form = Literal["tiles", "refined"]
FORMAT = 1
"""Format version of refine.json."""


@dataclass(frozen=True)
class MapMeasures:
    """One map of one slide: `counts` of its pixels at THRESHOLDS and at the model's own threshold (the last one),
    and how its detections match the lesions."""

    counts: PixelCounts
    matches: Matches


@dataclass(frozen=True)
class ComparedSlide:
    """The tile-level and the refined map of one slide whose lesions are known. `own`: the model's threshold."""

    slide_id: str
    patient: str
    part: str
    own: float
    model_digest: str
    tiles: MapMeasures
    refined: MapMeasures

    def measures(self, form: Form) -> MapMeasures:
        """Return the measures of one of the two maps."""
        return self.tiles if form == "tiles" else self.refined


@dataclass(frozen=True)
class MapThresholds:
    """The threshold of each map that gives the best Dice on validation slides; NaN without outlined lesions there."""

    tiles: float
    refined: float

    @property
    def known(self) -> bool:
        """Whether there is a threshold for both maps."""
        return not (math.isnan(self.tiles) or math.isnan(self.refined))


@dataclass(frozen=True)
class MapComparison:
    """Dice and FROC of refined maps (first) and of tile-level maps (second), paired, with intervals over patients.

    own_thresholds: the thresholds that the models chose. dice_validation: Dice at `best`, the thresholds that give
    the best Dice on validation slides; None where these are unknown.
    """

    model: str
    model_digests: tuple[str, ...]
    test_slides: int
    validation_slides: int
    own_thresholds: tuple[float, ...]
    best: MapThresholds
    dice_own: PairedDifference
    dice_validation: PairedDifference | None
    froc: PairedDifference

    def as_json(self) -> dict[str, Any]:
        """Return the content of refine.json; NaN is null."""
        dice = {"own": asdict(self.dice_own)}
        if self.dice_validation is not None:
            dice["validation"] = asdict(self.dice_validation)
        found: dict[str, Any] = without_nan(
            {
                "kind": "refinement",
                "format_version": FORMAT,
                "model": self.model,
                "model_digests": self.model_digests,
                "test_slides": self.test_slides,
                "validation_slides": self.validation_slides,
                "thresholds": {"own": self.own_thresholds, "validation": asdict(self.best)},
                "dice": dice,
                "froc": asdict(self.froc),
            }
        )
        return found


def compare_maps(model: str, slides: Sequence[ComparedSlide], spec: EvaluationSpec) -> MapComparison:
    """Return the comparison on the slides of part `test`; thresholds are chosen on those of part `val`.

    Raises DataError if there is no test slide.
    """
    test = [slide for slide in slides if slide.part == "test"]
    validation = [slide for slide in slides if slide.part == "val"]
    if not test:
        raise DataError(
            f"refine: no test slide of {model!r} has a label, refined maps and, where there is tumour, outlines"
        )
    rng = np.random.default_rng(spec.seed)  # one generator for all three comparisons, in this order
    best = MapThresholds(_best_threshold(validation, "tiles"), _best_threshold(validation, "refined"))
    return MapComparison(
        model=model,
        model_digests=tuple(sorted({slide.model_digest for slide in test})),
        test_slides=len(test),
        validation_slides=len(validation),
        own_thresholds=tuple(sorted({slide.own for slide in test})),
        best=best,
        dice_own=_compare_dice(test, None, None, rng, spec.bootstrap),
        dice_validation=(
            _compare_dice(test, best.refined, best.tiles, rng, spec.bootstrap) if best.known else None
        ),
        froc=_compare_froc(test, spec, rng),
    )


def pooled_dice(slides: Sequence[ComparedSlide], form: Form, threshold: float | None) -> float:
    """Return the Dice of all slides' pixels together at `threshold` (one of THRESHOLDS; None: the model's own)."""
    column = len(THRESHOLDS) if threshold is None else int(np.argmin(np.abs(THRESHOLDS - threshold)))
    return float(pooled_counts([slide.measures(form).counts for slide in slides]).dice()[column])


def _compare_dice(
    slides: Sequence[ComparedSlide],
    refined: float | None,
    tiles: float | None,
    rng: np.random.Generator,
    draws: int,
) -> PairedDifference:
    """Return Dice of refined maps at threshold `refined` minus that of tile-level maps at `tiles`."""
    return paired_bootstrap(
        lambda rows: pooled_dice([slides[i] for i in rows], "refined", refined),
        lambda rows: pooled_dice([slides[i] for i in rows], "tiles", tiles),
        [slide.patient for slide in slides],
        rng,
        draws,
    )


def _compare_froc(
    slides: Sequence[ComparedSlide], spec: EvaluationSpec, rng: np.random.Generator
) -> PairedDifference:
    """Return the FROC score of refined maps minus that of tile-level maps."""
    return paired_bootstrap(
        lambda rows: froc_curve([slides[i].refined.matches for i in rows], spec.froc_mode).score,
        lambda rows: froc_curve([slides[i].tiles.matches for i in rows], spec.froc_mode).score,
        [slide.patient for slide in slides],
        rng,
        spec.bootstrap,
    )


def _best_threshold(slides: Sequence[ComparedSlide], form: Form) -> float:
    if not any(slide.measures(form).counts.tumour for slide in slides):
        return math.nan
    curve = pooled_counts([slide.measures(form).counts for slide in slides]).dice()[: len(THRESHOLDS)]
    return float(THRESHOLDS[int(np.nanargmax(curve))])
