"""Lesion level: the Camelyon16 free-response curve, step by step as the organisers' script computes it.

Facts and every quirk: docs/contracts.md ("FROC"). Single precision for the probabilities of lesions, the smallest
threshold left out, isolated tumour cells neither hit nor miss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import Mask
from wsi_mil.errors import DataError

MERGE_UM = 75.0  # regions closer than this are one lesion
ISOLATED_UM = 275.0  # shorter than this: isolated tumour cells
OFFICIAL_MPP = 0.243 * 2**5  # level 5 of a slide of 0.243 µm/px
FP_PER_SLIDE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class EvaluationMask:
    """labels (rows, columns) int32: 0 outside, 1, 2, ... lesions; `isolated`: labels of isolated tumour cells."""

    labels: NDArray[np.int32]
    isolated: tuple[int, ...]
    mpp: float

    @property
    def count(self) -> int:
        return int(self.labels.max(initial=0))


def evaluation_mask(tumour: Mask, mpp: float = OFFICIAL_MPP) -> EvaluationMask:
    """Return the labelled mask of a tumour mask at `mpp` µm per pixel.

    Grown by less than 37.5 µm around pixel centres, holes filled (background not connected to the border by its four
    sides), regions connected also by corners, numbered row by row. An empty mask has no lesion.
    """
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import label, regionprops

    if not tumour.any():
        return EvaluationMask(np.zeros(tumour.shape, np.int32), (), mpp)
    distance = cv2.distanceTransform((~tumour).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # squared distances are whole numbers: rounding undoes the single precision of the transform
    squared = np.rint(distance.astype(np.float64) ** 2)
    grown = squared < (MERGE_UM / (mpp * 2)) ** 2
    labels = np.asarray(label(binary_fill_holes(grown), connectivity=2), np.int32)
    limit = ISOLATED_UM / mpp
    isolated = tuple(region.label for region in regionprops(labels) if _major_axis(region.coords) < limit)
    return EvaluationMask(labels, isolated, mpp)


def _major_axis(coords: NDArray[np.integer]) -> float:
    """Four times the root of the larger eigenvalue of the pixels' covariance, without the 1/12 of a pixel's own size."""
    centred = coords - coords.mean(0)
    covariance = centred.T @ centred / len(coords)
    return 4 * math.sqrt(max(float(np.linalg.eigvalsh(covariance)[-1]), 0.0))


@dataclass(frozen=True)
class Matches:
    """One slide's false positives, and one probability per lesion label: 0 for a missed one and for isolated cells."""

    false_positives: tuple[float, ...]
    true_positives: tuple[float, ...]
    n_lesions: int


def match_detections(
    points: Sequence[tuple[float, float, float]], mask: EvaluationMask | None, slide_id: str = ""
) -> Matches:
    """Return the matches of (probability, row, column) detections, rows and columns in pixels of `mask`.

    No mask: a normal slide, where every detection is a false positive. Raises DataError for a point outside the mask.
    """
    if mask is None:
        return Matches(tuple(p for p, _, _ in points), (), 0)
    best = [0.0] * mask.count
    false_positives = []
    rows, columns = mask.labels.shape
    for probability, y, x in points:
        row, column = math.floor(y), math.floor(x)
        if not (0 <= row < rows and 0 <= column < columns):
            raise DataError(
                f"slide {slide_id!r}: a detection at row {row}, column {column} lies outside its mask of {rows} x {columns}"
            )
        hit = int(mask.labels[row, column])
        if hit == 0:
            false_positives.append(probability)
        elif hit not in mask.isolated:
            best[hit - 1] = max(best[hit - 1], probability)
    return Matches(tuple(false_positives), tuple(best), mask.count - len(mask.isolated))


@dataclass(frozen=True)
class FrocCurve:
    """Sensitivity over false positives per slide, from many to none; `score`: mean at 1/4, 1/2, 1, 2, 4, 8."""

    thresholds: NDArray[np.float64]
    false_positives: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    at: tuple[float, ...]
    score: float
    n_lesions: int
    n_slides: int
    reason: str = ""


def froc_curve(matches: Sequence[Matches]) -> FrocCurve:
    """Return the curve over all slides (with or without detections; each counts in the denominator).

    Sorted counts instead of the script's quadratic loop: the same numbers in n log n.
    """
    fp = np.sort(np.array([p for slide in matches for p in slide.false_positives], np.float64))
    tp32 = np.sort(np.array([p for slide in matches for p in slide.true_positives], np.float32))
    lesions = sum(slide.n_lesions for slide in matches)
    tp64 = tp32.astype(np.float64)
    thresholds = np.unique(np.concatenate([fp, tp64]))[1:]
    n_fp = len(fp) - np.searchsorted(fp, thresholds, side="left")
    # the script compares its float32 lesions with the threshold in float32
    n_tp = len(tp32) - np.searchsorted(tp32, thresholds.astype(np.float32), side="left")
    false_positives = np.append(n_fp, 0) / max(len(matches), 1)
    if lesions == 0:
        nan = np.full(len(thresholds) + 1, np.nan)
        none = (math.nan,) * len(FP_PER_SLIDE)
        return FrocCurve(thresholds, false_positives, nan, none, math.nan, 0, len(matches), "no lesion to find")
    sensitivity = np.append(n_tp, 0) / lesions
    at = tuple(float(v) for v in np.interp(FP_PER_SLIDE, false_positives[::-1], sensitivity[::-1]))
    return FrocCurve(thresholds, false_positives, sensitivity, at, float(np.mean(at)), lesions, len(matches))
