"""Pen marks: coloured like ink, mostly on glass, and not most of what is coloured on the slide."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB, Mask

GREEN_TO_BLUE = (31, 121)
"""Hues of green and blue ink (OpenCV, 0 to 179); those of haematoxylin and eosin are above."""
RED_FROM, RED_TO = 170, 4
"""Hues of red ink, around 0; those of DAB are above RED_TO, those of eosin below RED_FROM."""
LEAST_SATURATION, RED_SATURATION, RED_VALUE = 91, 165, 110
WEAK_SATURATION = 45
"""Paler pixels of the same hues belong to a mark that has strong ones."""
BLACK, BLACK_TINT = 85, 35
"""Luminance and difference of colours of black ink."""
STRONG = 0.2
"""The least fraction of a mark that is strongly coloured."""
ON_GLASS = 0.3
"""The least fraction of the surroundings of a mark that is glass."""
FEWEST_PIXELS = 12
LEAST_RADIUS = 2.5
"""A disc of this radius in pixels fits into a mark; deposits in tissue are narrower."""
MOST = 0.5
"""If more than this fraction of what is coloured has a colour of ink, that is the stain of the tissue, unless
the marks are smooth."""
MANY = 4
"""Black that has more than so many pieces in tissue for each mark is a deposit, such as silver or pigment."""
SMOOTH = 3.5
"""The largest standard deviation of luminance, between neighbouring pixels, inside marks of ink."""


def find_pen(image: RGB, evidence: NDArray[np.float32], valid: Mask, tissue_from: float) -> Mask:
    """Return the pixels (H, W) of pen in an image (H, W, 3).

    evidence: of absorbed light; pixels with more than `tissue_from` are no glass. valid: where the image has
    data.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hue, saturation, value = cv2.split(hsv)
    cool = (hue >= GREEN_TO_BLUE[0]) & (hue <= GREEN_TO_BLUE[1])
    red = (hue >= RED_FROM) | (hue <= RED_TO)
    black = saturation.astype(np.float32) * value < 255 * BLACK_TINT
    black &= cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) < BLACK
    strong = cool & (saturation >= LEAST_SATURATION)
    strong |= red & (saturation >= RED_SATURATION) & (value >= RED_VALUE)
    strong = (strong | black) & valid
    if not strong.any():
        return np.zeros(valid.shape, bool)
    ink = (strong | ((cool | red) & (saturation >= WEAK_SATURATION))) & valid
    no_glass = (evidence > tissue_from) & valid
    found = np.zeros(valid.shape, bool)
    for kind in (black, cool, red):
        of_kind = ink & kind
        marks = _marks_on_glass(of_kind, strong & kind, no_glass & ~of_kind, valid)
        most = of_kind.sum() > MOST * no_glass.sum() and not _smooth(image, marks & strong)
        deposit = kind is black and _pieces(of_kind & ~marks) > MANY * _pieces(marks)
        if marks.sum() >= (of_kind & ~marks).sum() and not most and not deposit:
            found |= marks
    return np.asarray(cv2.dilate(found.astype(np.uint8), np.ones((5, 5), np.uint8)), np.bool_) & valid


def _marks_on_glass(ink: Mask, strong: Mask, tissue: Mask, valid: Mask) -> Mask:
    """Return the connected pieces of `ink` that are strong, wide, and on glass.

    A narrow piece beside an area without data counts, too: it is the rim of the scanned region. The
    surroundings are 3 to 5 pixels away: closer, pixels are mixtures.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    near = cv2.dilate(ink.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    ring = cv2.dilate(labels.astype(np.float32), np.ones((11, 11), np.uint8)).astype(np.int64)
    ring[near | ~valid] = 0
    around, beside = np.bincount(ring.ravel(), minlength=count), np.bincount(ring[tissue], minlength=count)
    area = stats[:, cv2.CC_STAT_AREA]
    marks = (np.bincount(labels[strong], minlength=count) >= STRONG * area) & (area >= FEWEST_PIXELS)
    marks &= beside <= (1 - ON_GLASS) * around
    by_frame = cv2.dilate((~valid).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    depth = cv2.distanceTransform(np.pad(ink, 1, "edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    wide = np.zeros(count, bool)
    wide[np.unique(labels[(depth >= LEAST_RADIUS) | by_frame])] = True
    marks &= wide
    marks[0] = False
    return np.asarray(marks[labels], np.bool_)


def _pieces(mask: Mask) -> int:
    """Return the number of connected pieces."""
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return int(count) - 1


def _smooth(image: RGB, marks: Mask) -> bool:
    """Return whether the marks lack texture. Tissue has nuclei, which differ from their surroundings."""
    closed = cv2.morphologyEx(marks.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    inside = cv2.erode(closed, np.ones((3, 3), np.uint8)) > 0
    if not inside.any():
        return False
    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = luminance - mean_within(luminance, inside, 2.0)
    return float(detail[inside].std()) <= SMOOTH


def mean_within(values: NDArray[np.float32], valid: Mask, sigma: float) -> NDArray[np.float32]:
    """Return the Gaussian mean (H, W) of the valid pixels around each pixel."""
    if valid.all():
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)
    weight = valid.astype(np.float32)
    total = cv2.GaussianBlur(values * weight, (0, 0), sigma)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3), np.float32)
