"""Lesion level: the Camelyon16 free-response curve, as the organisers' script computes it or without its quirks.

Two modes, differences listed in docs/contracts.md ("FROC"). `official` has every quirk and is what published scores mean:
single precision for lesions, the smallest threshold left out, axes without the pixels' own size, a phantom region in an
empty mask. `corrected` has none of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import Mask
from wsi_mil.errors import DataError
from wsi_mil.evaluation.spec import FrocMode

MERGE_UM = 75.0  # regions closer than this are one lesion
ISOLATED_UM = 275.0  # shorter than this: isolated tumour cells
OFFICIAL_MPP = 0.243 * 2**5  # level 5 of a slide of 0.243 µm/px
FP_PER_SLIDE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class EvaluationMask:
    """Lesion labels of a slide, kept where there is any: `labels` (rows, columns) int32, 0 outside, 1, 2, ... lesions.

    The window starts at pixel (row0, column0) of the whole mask of `shape`; outside it every label is 0. `isolated`: labels
    of isolated tumour cells. `axes_px`: the major axis of each label, `centres_px`: its (row, column) in the whole mask (both
    none for the phantom of an empty mask).
    """

    labels: NDArray[np.int32]
    isolated: tuple[int, ...]
    mpp: float
    shape: tuple[int, int]
    row0: int = 0
    column0: int = 0
    axes_px: tuple[float, ...] = ()
    centres_px: tuple[tuple[float, float], ...] = ()

    @property
    def count(self) -> int:
        return int(self.labels.max(initial=0))

    def at(self, row: int, column: int) -> int:
        """Return the label at a pixel of the whole mask."""
        inner_row, inner_column = row - self.row0, column - self.column0
        rows, columns = self.labels.shape
        inside = 0 <= inner_row < rows and 0 <= inner_column < columns
        return int(self.labels[inner_row, inner_column]) if inside else 0

    def whole(self) -> NDArray[np.int32]:
        """Return the labels of the whole mask."""
        full = np.zeros(self.shape, np.int32)
        rows, columns = self.labels.shape
        full[self.row0 : self.row0 + rows, self.column0 : self.column0 + columns] = self.labels
        return full


def evaluation_mask(
    tumour: Mask, mpp: float = OFFICIAL_MPP, mode: FrocMode = "official", isolated_um: float = ISOLATED_UM
) -> EvaluationMask:
    """Return the labelled mask of a tumour mask (rows, columns) at `mpp` µm per pixel.

    Grown by less than 37.5 µm around pixel centres (corrected: at most), holes filled (background not connected to the
    border by its four sides), regions connected also by corners, numbered row by row; those with a major axis below `isolated_um` (275 in the
    challenge) are isolated tumour cells. Time and memory go with the window
    that holds tumour, not with the slide.
    """
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import label, regionprops

    radius = MERGE_UM / (mpp * 2)
    window = _window(tumour, math.ceil(radius) + 1)
    if window is None:
        return _empty(tumour.shape, mpp, radius, mode)
    rows, columns = window
    # beyond the window there is background only, joined to the border: nothing in it changes a label inside
    distance = cv2.distanceTransform(
        (~tumour[rows, columns]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    # squared distances are whole numbers: rounding undoes the single precision of the transform
    squared = np.rint(distance.astype(np.float64) ** 2)
    grown = squared < radius**2 if mode == "official" else squared <= radius**2
    labels = np.asarray(label(binary_fill_holes(grown), connectivity=2), np.int32)
    limit = isolated_um / mpp
    own_size = 0.0 if mode == "official" else 1 / 12
    coords = [region.coords for region in regionprops(labels)]
    axes_px = tuple(_major_axis(pixels, own_size) for pixels in coords)
    centres = [pixels.mean(0) for pixels in coords]
    centres_px = tuple((float(row) + rows.start, float(column) + columns.start) for row, column in centres)
    isolated = tuple(number for number, axis in enumerate(axes_px, start=1) if axis < limit)
    return EvaluationMask(labels, isolated, mpp, tumour.shape, rows.start, columns.start, axes_px, centres_px)


def _window(tumour: Mask, margin: int) -> tuple[slice, slice] | None:
    """Rows and columns that hold tumour, with a margin inside the image; None for an empty mask."""
    rows, columns = np.flatnonzero(tumour.any(1)), np.flatnonzero(tumour.any(0))
    if not len(rows):
        return None
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, tumour.shape[0])),
        slice(max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, tumour.shape[1])),
    )


def _empty(shape: tuple[int, int], mpp: float, radius: float, mode: FrocMode) -> EvaluationMask:
    """No lesion; in official mode the phantom of isolated cells that the script's distance routine makes, measured from
    the pixel above the upper left corner."""
    if mode == "corrected":
        return EvaluationMask(np.zeros((0, 0), np.int32), (), mpp, shape)
    reach = math.ceil(radius)
    rows, columns = np.indices((min(reach, shape[0]), min(reach, shape[1])))
    return EvaluationMask(((rows + 1) ** 2 + columns**2 < radius**2).astype(np.int32), (1,), mpp, shape)


def _major_axis(coords: NDArray[np.integer], own_size: float) -> float:
    """Four times the root of the larger eigenvalue of the pixels' covariance; `own_size`: a pixel's own variance."""
    centred = coords - coords.mean(0)
    covariance = centred.T @ centred / len(coords)
    return 4 * math.sqrt(max(float(np.linalg.eigvalsh(covariance)[-1]) + own_size, 0.0))


@dataclass(frozen=True)
class Matches:
    """One slide's false positives, and one probability per lesion label: 0 for a missed one and for isolated cells.

    `false_positive_rows`: which detections the false positives are.
    """

    false_positives: tuple[float, ...]
    true_positives: tuple[float, ...]
    n_lesions: int
    false_positive_rows: tuple[int, ...] = ()


def match_detections(
    points: Sequence[tuple[float, float, float]], mask: EvaluationMask | None, slide_id: str = ""
) -> Matches:
    """Return the matches of (probability, row, column) detections, rows and columns in pixels of the whole mask.

    No mask: a normal slide, where every detection is a false positive. Raises DataError for a point outside the mask,
    where the script stops or wraps to the other side, and for a probability that is no finite number.
    """
    for probability, y, x in points:
        if not (math.isfinite(probability) and math.isfinite(y) and math.isfinite(x)):
            raise DataError(
                f"slide {slide_id!r}: a detection ({probability}, row {y}, column {x}) is not finite"
            )
    if mask is None:
        return Matches(tuple(p for p, _, _ in points), (), 0, tuple(range(len(points))))
    best = [0.0] * mask.count
    missed = []
    rows, columns = mask.shape
    for number, (probability, y, x) in enumerate(points):
        row, column = math.floor(y), math.floor(x)
        if not (0 <= row < rows and 0 <= column < columns):
            raise DataError(
                f"slide {slide_id!r}: a detection at row {row}, column {column} lies outside its mask of {rows} x {columns}"
            )
        hit = mask.at(row, column)
        if hit == 0:
            missed.append(number)
        elif hit not in mask.isolated:
            best[hit - 1] = max(best[hit - 1], probability)
    false_positives = tuple(points[number][0] for number in missed)
    return Matches(false_positives, tuple(best), mask.count - len(mask.isolated), tuple(missed))


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


@dataclass(frozen=True)
class LesionFound:
    """One region that FROC counts (grown by 37.5 µm, merged): where, how large, and the best detection on it (0: none)."""

    slide_id: str
    x0_px: float
    y0_px: float
    length_um: float
    isolated: bool
    probability: float


def froc_curve(matches: Sequence[Matches], mode: FrocMode = "official") -> FrocCurve:
    """Return the curve over all slides (with or without detections; each counts in the denominator).

    Sorted counts instead of the script's quadratic loop: the same numbers in n log n. Corrected: every probability above
    0 is a threshold, all of them in double precision.
    """
    fp = np.sort(np.array([p for slide in matches for p in slide.false_positives], np.float64))
    precision = np.float32 if mode == "official" else np.float64
    tp = np.sort(np.array([p for slide in matches for p in slide.true_positives], precision))
    lesions = sum(slide.n_lesions for slide in matches)
    thresholds = np.unique(np.concatenate([fp, tp.astype(np.float64)]))
    thresholds = thresholds[1:] if mode == "official" else thresholds[thresholds > 0]
    n_fp = len(fp) - np.searchsorted(fp, thresholds, side="left")
    # the script compares its float32 lesions with the threshold in float32
    n_tp = len(tp) - np.searchsorted(tp, thresholds.astype(precision), side="left")
    false_positives = np.append(n_fp, 0) / max(len(matches), 1)
    if lesions == 0:
        nan = np.full(len(thresholds) + 1, np.nan)
        none = (math.nan,) * len(FP_PER_SLIDE)
        return FrocCurve(
            thresholds, false_positives, nan, none, math.nan, 0, len(matches), "no lesion to find"
        )
    sensitivity = np.append(n_tp, 0) / lesions
    at = tuple(float(v) for v in np.interp(FP_PER_SLIDE, false_positives[::-1], sensitivity[::-1]))
    return FrocCurve(thresholds, false_positives, sensitivity, at, float(np.mean(at)), lesions, len(matches))
