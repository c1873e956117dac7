"""Curves with bootstrap bands: ROC and precision-recall over slides, FROC over lesions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.froc import Matches, froc_curve
from wsi_mil.evaluation.intervals import draws_of_groups
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.evaluation.metrics.average_precision import average_precision
from wsi_mil.evaluation.observations import LesionObservations, SlideObservations
from wsi_mil.evaluation.spec import FrocMode
from wsi_mil.randomness import named_generator

Curve = NDArray[np.float64]
FRACTIONS = np.linspace(0, 1, 51)
FALSE_POSITIVES = np.concatenate([np.linspace(0, 1, 17), np.linspace(1.25, 8, 28)])
BAND_DRAWS = 200  # enough for a figure; limits of a band are not quoted as numbers


@dataclass(frozen=True)
class RocBand:
    """The band of the true positive rate, from `low` to `high`, at each false positive rate `fpr`."""

    fpr: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class PrecisionBand:
    """The band of the precision, from `low` to `high`, at each `recall`."""

    recall: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class FrocBand:
    """The band of the sensitivity, from `low` to `high`, at each number of false positives per slide."""

    false_positives_per_slide: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class SlideCurves:
    """The ROC curve (fpr, tpr) and the precision-recall curve of slides, with their bands and areas.

    The points are those of scikit-learn's `roc_curve` and `precision_recall_curve`.
    """

    roc_band: RocBand
    pr_band: PrecisionBand
    fpr: list[float]
    tpr: list[float]
    precision: list[float]
    recall: list[float]
    auc: float
    average_precision: float


@dataclass(frozen=True)
class LesionCurve:
    """The free-response curve, from many false positives per slide to none, with its band."""

    false_positives_per_slide: list[float]
    sensitivity: list[float]
    band: FrocBand


def slide_curves(data: SlideObservations, seed: int, model: str, draws: int) -> SlideCurves | None:
    """Return the curves of slides; None if a class is missing.

    Bands come from `draws` bootstrap draws over patients, at most 200.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    truth, scores = data.truth, data.scores
    if truth.all() or not truth.any():
        return None
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(truth, scores)

    def banded(
        name: str, curve: Callable[[NDArray[np.bool_], NDArray[np.float64]], Curve]
    ) -> list[list[float]]:
        rng = named_generator(seed, model, "slide", name)
        return list(
            band(lambda rows: curve(truth[rows], scores[rows]), data.groups, rng, min(draws, BAND_DRAWS))
        )

    return SlideCurves(
        RocBand(FRACTIONS.tolist(), *banded("roc_band", roc_at)),
        PrecisionBand(FRACTIONS.tolist(), *banded("pr_band", precision_at)),
        fpr.tolist(),
        tpr.tolist(),
        precision.tolist(),
        recall.tolist(),
        auc(truth, scores),
        average_precision(truth, scores),
    )


def lesion_curve(data: LesionObservations, seed: int, model: str, draws: int) -> LesionCurve:
    """Return the free-response curve; its sensitivity is NaN without lesions.

    The band comes from `draws` bootstrap draws over patients, at most 200.
    """
    curve = froc_curve(data.matches, data.mode)
    low, high = band(
        lambda rows: froc_at([data.matches[row] for row in rows], data.mode),
        data.groups,
        named_generator(seed, model, "lesion", "froc_band"),
        min(draws, BAND_DRAWS),
    )
    return LesionCurve(
        curve.false_positives.tolist(),
        curve.sensitivity.tolist(),
        FrocBand(FALSE_POSITIVES.tolist(), low, high),
    )


def band(
    curve: Callable[[NDArray[np.intp]], Curve], groups: Sequence[str], rng: np.random.Generator, draws: int
) -> tuple[list[float], list[float]]:
    """Return the 2.5 and 97.5 % quantiles of `curve(rows)` at each of its points, over draws of whole
    `groups`.

    The interval of 95 % holds at each point separately, not for the curve as a whole. Limits are NaN where
    fewer than half of the draws are defined. Both lists are empty if `draws` is 0.
    """
    found = np.array([curve(rows) for rows in draws_of_groups(groups, rng, draws)])
    if not len(found):
        return [], []
    few = np.isfinite(found).sum(0) < len(found) / 2
    filled = np.where(few, 0.0, found)
    low, high = np.nanquantile(filled, [0.025, 0.975], axis=0)
    return np.where(few, math.nan, low).tolist(), np.where(few, math.nan, high).tolist()


def roc_at(truth: NDArray[np.bool_], scores: NDArray[np.floating], fractions: Curve = FRACTIONS) -> Curve:
    """Return the largest true positive rate at a false positive rate of at most each of `fractions`.

    NaN if a class is missing.

    >>> roc_at(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]), np.array([0.0, 1.0])).tolist()
    [0.5, 1.0]
    """
    from sklearn.metrics import roc_curve

    if truth.all() or not truth.any():
        return np.full(len(fractions), np.nan)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return np.asarray(tpr[np.searchsorted(fpr, fractions + 1e-12, side="right") - 1], np.float64)


def precision_at(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], fractions: Curve = FRACTIONS
) -> Curve:
    """Return the precision at the highest threshold whose recall reaches each of `fractions`.

    NaN if a class is missing.

    >>> truth, scores = np.array([True, False, True]), np.array([0.9, 0.5, 0.1])
    >>> precision_at(truth, scores, np.array([0.5, 1.0])).round(3).tolist()
    [1.0, 0.667]
    """
    from sklearn.metrics import precision_recall_curve

    if truth.all() or not truth.any():
        return np.full(len(fractions), np.nan)
    precision, recall, _ = precision_recall_curve(truth, scores)
    # scikit-learn ends with a point that belongs to no threshold; without it, and reversed, recall rises
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]
    return np.asarray(precision[np.searchsorted(recall, fractions - 1e-12, side="left")], np.float64)


def froc_at(matches: Sequence[Matches], mode: FrocMode, places: Curve = FALSE_POSITIVES) -> Curve:
    """Return the sensitivity at `places` false positives per slide, interpolated; NaN without lesions."""
    curve = froc_curve(matches, mode)
    if curve.n_lesions == 0:
        return np.full(len(places), np.nan)
    return np.asarray(np.interp(places, curve.false_positives[::-1], curve.sensitivity[::-1]), np.float64)
