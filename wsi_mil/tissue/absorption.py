"""Find tissue of any stain by the light that it absorbs, in comparison to the glass of the same slide.

1. Pixels that are almost black and lie together (outside the scanned region, black pen) are left out.
2. The glass is the brightest frequent colour, if that is bright, almost neutral and wide. If there is none,
   the frame is full of tissue, and white is taken as the colour of glass.
3. Pen is what has the colour of pen, forms a stroke on glass, and is not most of the coloured area.
4. The evidence of a pixel is the part of the light that one colour loses more than another (grey shadows of
   dust and cover slips have none of it), plus what all colours lose beyond DARK.
5. The threshold is a fraction of the typical evidence of the tissue, at most HIGHEST, and never below what
   the noise of the glass gives. A stain that is strong in one spot therefore does not move it much.

The absorbed part of the light, 1 - I / glass, is close to ln(10) times a small optical density, and unlike
optical density it is linear in the part of a pixel that tissue covers, so that edges stay in place.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB, Mask
from wsi_mil.tissue.pen import find_pen, mean_within
from wsi_mil.units import um_to_px

Evidence = NDArray[np.float32]

BLACK, BLACK_TINT, NO_LIGHT = 55.0, 35.0, 30.0
"""Luminance (0 to 255) and difference of colours below which a pixel may be no data or black pen; below
NO_LIGHT, whatever its colour."""
RIM, RIM_SATURATION = 110.0, 0.15
"""Beside a black area, darker or less saturated pixels are a mixture of black and glass."""
BLACK_RADIUS_UM = 30.0
"""Black areas in which no disc of this radius fits are tissue (pigment, silver, dense nuclei)."""
GLASS_LEAST = 185
"""Glass is at least as bright in its darkest colour."""
GLASS_TINT = 22
"""The largest difference between two colours of glass."""
SAME_GLASS, LEAST_LIGHT = 0.012, 0.85
"""Where the extent of glass is measured, glass has at most this evidence, and passes at least this light."""
GLASS_RADIUS_UM = 60.0
"""Glass is wide: discs of this radius fit between pieces of tissue, but not between the nuclei of tissue."""
LEAST_WIDE = 0.5
"""The least part of what has the colour of glass that lies in such discs (see `wide_part`)."""
MOST_PIXELS = 200_000
"""The colour of glass is found in an evenly spaced sample of about this many pixels."""
WHITE = (244.0, 244.0, 244.0)
DARK = 0.2
"""What all colours may lose before it counts as evidence."""
FLOOR, HIGHEST, FRACTION = 0.018, 0.07, 0.25


@dataclass(frozen=True)
class Segmented:
    """The tissue (H, W), and how it was found.

    threshold: of the evidence, 0 to 1. glass: its colour; None if the frame shows no glass. black, pen:
    fractions of the frame that were left out.
    """

    mask: Mask
    threshold: float
    glass: tuple[float, float, float] | None
    black: float
    pen: float

    def describe(self) -> str:
        """Return one line: method, threshold, glass, and what was left out."""
        glass = "no glass seen, white taken"
        if self.glass is not None:
            glass = "glass ({:.0f}, {:.0f}, {:.0f})".format(*self.glass)
        left_out = [f"{name} {part:.1%}" for name, part in (("black", self.black), ("pen", self.pen)) if part]
        return ", ".join([f"auto: absorbed light above {self.threshold:.3f}", glass, *left_out])


def segment_by_absorption(image: RGB, mpp: float, blur_um: float, drop_pen: bool) -> Segmented:
    """Return the tissue of an RGB image (H, W, 3) at `mpp` µm/px, before small pieces are dropped."""
    smooth = cv2.GaussianBlur(cv2.medianBlur(image, 3), (0, 0), max(um_to_px(blur_um, mpp) / 2, 0.1))
    black = find_black(image, mpp)
    glass = find_glass(smooth, ~black, mpp)
    colour = WHITE if glass is None else glass
    sharp = evidence(image, colour)
    pen = np.zeros(black.shape, bool)
    if drop_pen:
        pen = find_pen(image, evidence(smooth, colour), ~black, 2 * FLOOR)
    left_out = black | pen
    blurred = mean_within(sharp, ~left_out, max(um_to_px(blur_um, mpp) / 2, 0.1))
    threshold = find_threshold(blurred[~left_out], glass is not None)
    mask = (blurred > threshold) & ~left_out
    mask = _sharp_edge(mask, sharp, ~left_out)
    return Segmented(mask, threshold, glass, float(black.mean()), float(pen.mean()))


def find_black(image: RGB, mpp: float) -> Mask:
    """Return the pixels (H, W) of black areas in which a disc of BLACK_RADIUS_UM fits, and their dark rim."""
    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    red, green, blue = (channel.astype(np.float32) for channel in cv2.split(image))
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    neutral = brightest - darkest < BLACK_TINT
    dark = ((luminance < NO_LIGHT) | ((luminance < BLACK) & neutral)).astype(np.uint8)
    if not dark.any():
        return np.zeros(dark.shape, bool)
    radius = max(round(um_to_px(BLACK_RADIUS_UM, mpp)), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    core = cv2.morphologyEx(
        cv2.copyMakeBorder(dark, *[radius] * 4, cv2.BORDER_REPLICATE), cv2.MORPH_OPEN, disc
    )
    core = core[radius:-radius, radius:-radius]
    _, labels = cv2.connectedComponents(dark, connectivity=8)
    wide = np.zeros(int(labels.max()) + 1, bool)
    wide[np.unique(labels[core > 0])] = True
    wide[0] = False
    black = wide[labels]
    grey = brightest - darkest < RIM_SATURATION * brightest
    next_to = cv2.dilate(black.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    around = cv2.dilate(black.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.asarray(black | (next_to & (luminance < RIM)) | (around & grey), np.bool_)


def find_glass(image: RGB, valid: Mask, mpp: float) -> tuple[float, float, float] | None:
    """Return the colour of glass in a smooth image: the brightest frequent colour; None if it is no glass."""
    pixels = image[valid]
    pixels = pixels[:: max(len(pixels) // MOST_PIXELS, 1)]
    if len(pixels) == 0:
        return None
    darkest, brightest = pixels.min(1), pixels.max(1)
    candidates = pixels[(darkest >= GLASS_LEAST) & (brightest - darkest <= GLASS_TINT)]
    if len(candidates) < 0.002 * len(pixels):
        return None
    counts = np.bincount(candidates.min(1), minlength=256).astype(float)
    counts = np.convolve(counts, np.ones(3) / 3, "same")
    bright = np.flatnonzero(counts >= 0.1 * counts.max())[-1]
    window = np.arange(max(bright - 5, 0), bright + 1)
    mode = int(window[np.argmax(counts[window])])
    near = candidates[np.abs(candidates.min(1).astype(int) - mode) <= 1]
    red, green, blue = np.median(near, 0).tolist()
    if wide_part(image, (red, green, blue), valid, mpp) < LEAST_WIDE:
        return None
    return (red, green, blue)


def wide_part(image: RGB, glass: tuple[float, float, float], valid: Mask, mpp: float) -> float:
    """Return the part of the pixels with the colour of glass that discs of GLASS_RADIUS_UM among them cover.

    The brightness may fall slowly over the frame: a pixel has the colour of glass if all colours lose the
    same. Glass has 0.59 and more on drawn slides, and pale tissue that fills the frame 0.44 and less, since
    nuclei lie everywhere in it. Areas that were left out count as glass. Pixels beside them are not counted,
    since blurring mixes the two.
    """
    passed = image.max(2) >= LEAST_LIGHT * max(glass)
    near = (evidence(image, glass) < SAME_GLASS) & passed & valid
    radius = max(round(um_to_px(GLASS_RADIUS_UM, mpp)), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    padded = cv2.copyMakeBorder((near | ~valid).astype(np.uint8), *[radius] * 4, cv2.BORDER_REPLICATE)
    wide = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc)[radius:-radius, radius:-radius] > 0
    counted = near & (cv2.erode(valid.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    return float((wide & counted).sum() / max(int(counted.sum()), 1))


def evidence(image: RGB, glass: tuple[float, float, float]) -> Evidence:
    """Return (H, W) float32, 0 to about 1: by how much a pixel differs from glass by absorbing light.

    >>> round(float(evidence(np.full((1, 1, 3), 120, np.uint8), (240, 240, 240))[0, 0]), 3)
    0.3
    """
    passed = [_at_most(image[..., c].astype(np.float32) / np.float32(glass[c]), 1.03) for c in range(3)]
    most = cv2.max(cv2.max(passed[0], passed[1]), passed[2])
    least = cv2.min(cv2.min(passed[0], passed[1]), passed[2])
    return np.asarray(most - least + np.maximum(1 - DARK - most, 0), np.float32)


def _at_most(values: Evidence, limit: float) -> Evidence:
    """Return the smaller of each value (H, W) and the limit. `cv2.min` takes an image of one pixel for a
    colour."""
    return np.asarray(cv2.threshold(values, limit, 0, cv2.THRESH_TRUNC)[1], np.float32)


def find_threshold(values: Evidence, glass: bool) -> float:
    """Return the threshold of the evidence, from the pixels that may be tissue or glass."""
    if len(values) == 0:
        return FLOOR
    floor = FLOOR
    if glass:
        low = values[values < HIGHEST]
        if len(low):
            mode = float(np.argmax(np.bincount((low * 1000).astype(int), minlength=1)) + 0.5) / 1000
            below = low[low <= mode]
            spread = float(mode - np.quantile(below, 0.32)) if len(below) else 0.0
            floor = min(max(FLOOR, mode + 5 * spread), HIGHEST)
    above = values[values > floor]
    if len(above) == 0:
        return floor
    return float(np.clip(FRACTION * np.median(above), floor, HIGHEST))


def _sharp_edge(mask: Mask, sharp: Evidence, valid: Mask) -> Mask:
    """Return the mask with its edge where the evidence falls to half of that of the tissue inside.

    Blur moves the place where a low threshold is passed away from the tissue, by up to three pixels.
    """
    grey = mask.astype(np.uint8)
    inner = cv2.erode(grey, np.ones((7, 7), np.uint8), borderValue=1)
    capped = np.minimum(sharp, 0.35) * grey
    level = cv2.boxFilter(capped, -1, (11, 11), normalize=False)
    count = cv2.boxFilter(grey.astype(np.float32), -1, (11, 11), normalize=False)
    half = 0.5 * level / np.maximum(count, 1)
    near = cv2.blur(np.minimum(sharp, 0.35), (3, 3))
    return np.asarray(mask & ((inner > 0) | (near > half)) & valid, np.bool_)
