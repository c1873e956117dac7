"""The free-response curve (FROC) of Camelyon16: sensitivity for lesions over false positives per slide.

There are two modes. `official` gives the numbers of the organisers' script, which published scores are based
on. The script uses single precision for lesions, leaves out the smallest threshold, measures axes between
pixel centres, and finds a region in an empty mask. `corrected` does none of this. docs/contracts.md ("FROC")
lists the differences.
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
    """The labelled lesions of one slide. Only the window of the mask that holds lesions is stored.

    labels (rows, columns) int32: 0 outside lesions, 1, 2, ... in them. mpp: µm per pixel. shape: (rows,
    columns) of the whole mask. row0, column0: the window's first pixel in it; outside the window every label
    is 0.
    isolated: the labels that are isolated tumour cells. axes_px: the major axis of each label. centres_px:
    the (row, column) of its centre in the whole mask. Both are empty for the region that mode `official` has
    in an empty mask.
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
        """The number of labels, isolated tumour cells included."""
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
    """Return the lesions of a tumour mask (rows, columns) at `mpp` µm per pixel.

    1. The tumour grows by all pixels whose centre is nearer than 37.5 µm (`corrected`: at most 37.5 µm away).
    2. Holes are filled: background that is not connected to the border through sides of pixels.
    3. Pixels that touch at sides or corners are one region; regions are numbered row by row.
    4. Regions with a major axis below `isolated_um` (275 in the challenge) are isolated tumour cells.

    Time and memory depend on the size of the window that holds tumour, not on that of the slide.
    """
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import label, regionprops

    radius = MERGE_UM / (mpp * 2)
    window = _window(tumour, math.ceil(radius) + 1)
    if window is None:
        return _empty(tumour.shape, mpp, radius, mode)
    rows, columns = window
    # outside the window there is only background, connected to the border: it changes no label inside
    distance = cv2.distanceTransform(
        (~tumour[rows, columns]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    # squared distances are whole numbers, so rounding removes the error of the transform's single precision
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
    """Return the rows and columns that hold tumour, widened by `margin` pixels; None without tumour."""
    rows, columns = np.flatnonzero(tumour.any(1)), np.flatnonzero(tumour.any(0))
    if not len(rows):
        return None
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, tumour.shape[0])),
        slice(max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, tumour.shape[1])),
    )


def _empty(shape: tuple[int, int], mpp: float, radius: float, mode: FrocMode) -> EvaluationMask:
    """Return the mask of a slide without tumour.

    In official mode it has one region of isolated tumour cells at the upper left corner: without tumour, the
    script's distance transform measures distances from the pixel above that corner.
    """
    if mode == "corrected":
        return EvaluationMask(np.zeros((0, 0), np.int32), (), mpp, shape)
    reach = math.ceil(radius)
    rows, columns = np.indices((min(reach, shape[0]), min(reach, shape[1])))
    return EvaluationMask(((rows + 1) ** 2 + columns**2 < radius**2).astype(np.int32), (1,), mpp, shape)


def _major_axis(coords: NDArray[np.integer], own_size: float) -> float:
    """Return four times the square root of the larger eigenvalue of the pixels' covariance.

    own_size: the variance within a pixel, 1/12 for a square of side 1.
    """
    centred = coords - coords.mean(0)
    covariance = centred.T @ centred / len(coords)
    return 4 * math.sqrt(max(float(np.linalg.eigvalsh(covariance)[-1]) + own_size, 0.0))


@dataclass(frozen=True)
class Matches:
    """Which lesions the detections of one slide hit.

    false_positives: probabilities of the detections outside lesions; false_positive_rows: their numbers in
    the list of detections. true_positives: for each label the probability of the best detection in it; 0
    without one, and 0 for isolated tumour cells. n_lesions: number of lesions, without isolated tumour cells.
    """

    false_positives: tuple[float, ...]
    true_positives: tuple[float, ...]
    n_lesions: int
    false_positive_rows: tuple[int, ...] = ()


def match_detections(
    points: Sequence[tuple[float, float, float]], mask: EvaluationMask | None, slide_id: str = ""
) -> Matches:
    """Return the matches of detections (probability, row, column), in pixels of the whole mask.

    mask: None for a normal slide, where every detection is a false positive. Raises DataError for a detection
    outside the mask and for a number that is not finite.
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
                f"slide {slide_id!r}: a detection at row {row}, column {column} lies outside its mask "
                f"of {rows} x {columns}"
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
    """The free-response curve of a model over all slides.

    thresholds (T,): rising. false_positives (T + 1,): per slide, at each threshold and, last, above all of
    them. sensitivity (T + 1,): the fraction of lesions found; NaN without a lesion. at: the sensitivity at
    1/4, 1/2, 1, 2, 4 and 8 false positives per slide, interpolated. score: its mean. reason: why the score is
    undefined, or "".
    """

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
    """One region of the evaluation mask, that is after growing and merging.

    x0_px, y0_px: its centre. length_um: its major axis. probability: of the best detection in it, 0 without
    one.
    """

    slide_id: str
    x0_px: float
    y0_px: float
    length_um: float
    isolated: bool
    probability: float


def froc_curve(matches: Sequence[Matches], mode: FrocMode = "official") -> FrocCurve:
    """Return the curve over all slides. Slides without detections count as well: false positives are per
    slide.

    Thresholds are all probabilities in double precision that are above 0 (`official`: all but the smallest,
    compared with lesions in single precision). The counts come from sorted lists, n log n, and equal those of
    the script's quadratic loop.
    """
    fp = np.sort(np.array([p for slide in matches for p in slide.false_positives], np.float64))
    precision = np.float32 if mode == "official" else np.float64
    tp = np.sort(np.array([p for slide in matches for p in slide.true_positives], precision))
    lesions = sum(slide.n_lesions for slide in matches)
    thresholds = np.unique(np.concatenate([fp, tp.astype(np.float64)]))
    thresholds = thresholds[1:] if mode == "official" else thresholds[thresholds > 0]
    n_fp = len(fp) - np.searchsorted(fp, thresholds, side="left")
    # the script holds the probabilities of lesions as float32 and compares them with the threshold as float32
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
