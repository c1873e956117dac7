"""Curves with pointwise bootstrap bands: ROC and precision-recall over slides, FROC over lesions."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.froc import Matches, froc_curve
from wsi_mil.evaluation.intervals import draws_of_groups
from wsi_mil.evaluation.spec import FrocMode

Curve = NDArray[np.float64]
SHARES = np.linspace(0, 1, 51)
FALSE_POSITIVES = np.concatenate([np.linspace(0, 1, 17), np.linspace(1.25, 8, 28)])


def band(
    curve: Callable[[NDArray[np.intp]], Curve], groups: Sequence[str], rng: np.random.Generator, draws: int
) -> tuple[list[float], list[float]]:
    """Return the 2.5 and 97.5 % points of `curve(rows)`, point by point, over draws of whole `groups`.

    Pointwise: at each place the interval holds by itself, not the band as a whole. NaN where fewer than half of the draws
    are defined.
    """
    found = np.array([curve(rows) for rows in draws_of_groups(groups, rng, draws)])
    if not len(found):
        return [], []
    few = np.isfinite(found).sum(0) < len(found) / 2
    filled = np.where(few, 0.0, found)
    low, high = np.nanquantile(filled, [0.025, 0.975], axis=0)
    return np.where(few, math.nan, low).tolist(), np.where(few, math.nan, high).tolist()


def roc_at(truth: NDArray[np.bool_], scores: NDArray[np.floating], shares: Curve = SHARES) -> Curve:
    """Return the largest true positive rate at false positive rates of at most `shares`; NaN if a class is missing.

    >>> roc_at(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]), np.array([0.0, 1.0])).tolist()
    [0.5, 1.0]
    """
    from sklearn.metrics import roc_curve

    if truth.all() or not truth.any():
        return np.full(len(shares), np.nan)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return np.asarray(tpr[np.searchsorted(fpr, shares + 1e-12, side="right") - 1], np.float64)


def precision_at(truth: NDArray[np.bool_], scores: NDArray[np.floating], shares: Curve = SHARES) -> Curve:
    """Return the precision at the first threshold whose recall reaches `shares`; NaN if a class is missing.

    >>> precision_at(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]), np.array([0.5, 1.0])).round(3).tolist()
    [1.0, 0.667]
    """
    from sklearn.metrics import precision_recall_curve

    if truth.all() or not truth.any():
        return np.full(len(shares), np.nan)
    precision, recall, _ = precision_recall_curve(truth, scores)
    precision, recall = (
        precision[:-1][::-1],
        recall[:-1][::-1],
    )  # recall rises, without the end point that is a convention
    return np.asarray(precision[np.searchsorted(recall, shares - 1e-12, side="left")], np.float64)


def froc_at(matches: Sequence[Matches], mode: FrocMode, places: Curve = FALSE_POSITIVES) -> Curve:
    """Return the sensitivity at `places` false positives per slide, interpolated as the score is; NaN without lesions."""
    curve = froc_curve(matches, mode)
    if curve.n_lesions == 0:
        return np.full(len(places), np.nan)
    return np.asarray(np.interp(places, curve.false_positives[::-1], curve.sensitivity[::-1]), np.float64)
