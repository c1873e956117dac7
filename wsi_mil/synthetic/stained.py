"""Slides in stains other than H&E, with pen, dark borders or no glass, and their exact tissue.

Each slide is a few irregular pieces of tissue (or a frame full of it) with stroma, fibres, nuclei and open
spaces, coloured by the Beer-Lambert law: intensity = glass * 10^-(amounts of the stains * stain vectors). The
truth comes from the outlines that are drawn, not from the pixels.

Stain vectors: haematoxylin, eosin and DAB from Ruifrok and Johnston (2001); methyl blue with Ponceau-fuchsin
(Masson's trichrome), Alcian blue and fast red from G. Landini's table of Colour Deconvolution, as
scikit-image's `skimage.color` has it. Silver is neutral black; its yellow ground is our own choice.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB, Mask
from wsi_mil.randomness import named_generator

Layer = NDArray[np.float32]

HAEMATOXYLIN, EOSIN, DAB = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)
METHYL_BLUE, PONCEAU_FUCHSIN = (0.80, 0.59, 0.11), (0.10, 0.74, 0.67)
ALCIAN_BLUE, FAST_RED = (0.87, 0.46, 0.16), (0.21, 0.85, 0.48)
SILVER, YELLOW_GROUND = (0.58, 0.58, 0.57), (0.14, 0.33, 0.93)

NEAR_BLACK = (20, 22, 26)
PENS = {"red": (200, 28, 45), "blue": (35, 60, 165), "green": (30, 120, 70), "black": (28, 26, 24)}


@dataclass(frozen=True)
class Stain:
    """Two stains: one of stroma, one of nuclei (or deposits), with their optical densities.

    stroma_od, nuclei_od: ranges from which a slide draws. nuclei_fraction: range of the fraction of the
    tissue that nuclei cover.
    """

    stroma: tuple[float, float, float]
    nuclei: tuple[float, float, float]
    stroma_od: tuple[float, float]
    nuclei_od: tuple[float, float]
    nuclei_fraction: tuple[float, float] = (0.05, 0.25)


STAINS = {
    "he": Stain(EOSIN, HAEMATOXYLIN, (0.15, 0.45), (0.4, 0.9)),
    "pale_he": Stain(EOSIN, HAEMATOXYLIN, (0.016, 0.05), (0.03, 0.10)),
    "trichrome": Stain(METHYL_BLUE, PONCEAU_FUCHSIN, (0.25, 0.6), (0.4, 0.8)),
    "trichrome_muscle": Stain(PONCEAU_FUCHSIN, METHYL_BLUE, (0.25, 0.6), (0.3, 0.6), (0.1, 0.35)),
    "alcian_blue": Stain(ALCIAN_BLUE, FAST_RED, (0.10, 0.45), (0.2, 0.6)),
    "silver": Stain(YELLOW_GROUND, SILVER, (0.04, 0.15), (0.9, 2.0)),
    "ihc": Stain(HAEMATOXYLIN, HAEMATOXYLIN, (0.03, 0.10), (0.15, 0.4)),
}


@dataclass(frozen=True)
class StainedSlide:
    """A drawn slide (H, W, 3) at `mpp` µm/px and its true tissue (H, W). pen: (H, W), where pen was drawn."""

    image: RGB
    tissue: Mask
    pen: Mask
    mpp: float
    kind: str


@dataclass(frozen=True)
class _Scene:
    """How a slide of one kind differs from pieces of tissue on clean glass."""

    stain: str = "he"
    full: bool = False
    dab: bool = False
    dark: str = ""
    pen: str = ""
    open_spaces: bool = False


KINDS: dict[str, _Scene] = {
    "he": _Scene(),
    "he_open_spaces": _Scene(open_spaces=True),
    "pale_he": _Scene("pale_he"),
    "trichrome": _Scene("trichrome"),
    "trichrome_muscle": _Scene("trichrome_muscle"),
    "alcian_blue": _Scene("alcian_blue"),
    "silver": _Scene("silver"),
    "ihc_hot_spot": _Scene("ihc", dab=True),
    "full_frame": _Scene(full=True),
    "full_frame_trichrome": _Scene("trichrome", full=True),
    "full_frame_alcian_blue": _Scene("alcian_blue", full=True),
    "full_frame_ihc": _Scene("ihc", full=True, dab=True),
    "dark_border": _Scene(dark="border"),
    "dark_background": _Scene(dark="background"),
    **{f"pen_{colour}": _Scene(pen=colour) for colour in PENS},
}


def draw_stained(
    kind: str, seed: int, size_px: tuple[int, int] = (900, 700), wide: bool = False
) -> StainedSlide:
    """Return a slide of one of KINDS, of about `size_px` (width, height) at 1 µm/px.

    wide: draw glass, noise and illumination from wider ranges, for slides that no method was tuned on.

    >>> slide = draw_stained("silver", seed=1, size_px=(300, 200))
    >>> slide.image.shape, slide.tissue.shape
    ((200, 300, 3), (200, 300))
    """
    scene, rng = KINDS[kind], named_generator(seed, "stained", kind)
    width, height = size_px
    shape = (height, width)
    tissue = np.ones(shape, bool) if scene.full else _pieces(shape, rng)
    if scene.open_spaces:
        tissue &= ~_open_spaces(tissue, rng)
    density = _stain(STAINS[scene.stain], tissue, rng, scene.dab)
    glass = rng.uniform(228, 250) + rng.uniform(-3.0, 3.0, 3) * (1.6 if wide else 1)
    light = glass * (1 + _illumination(shape, rng, 0.02 if wide else 0.008))[..., None]
    image = light * 10**-density
    pen = np.zeros(shape, bool)
    if scene.pen:
        pen = _strokes(shape, tissue, rng)
        cover = cv2.GaussianBlur(pen.astype(np.float32), (0, 0), 2.0)[..., None] * rng.uniform(0.9, 1.0)
        ink = np.array(PENS[scene.pen]) + rng.uniform(-12, 12, 3)
        image = image * (1 - cover) + np.minimum(image, np.clip(ink, 5, 255)) * cover
    if scene.dark:
        outside = ~tissue if scene.dark == "background" else _outside_scan(shape, tissue, rng)
        tissue &= ~outside
        image = np.where(outside[..., None], np.array(NEAR_BLACK) + rng.uniform(-3, 3, 3), image)
    image = image + rng.normal(0, rng.uniform(1.0, 6.0 if wide else 3.0), image.shape)
    return StainedSlide(np.clip(np.rint(image), 0, 255).astype(np.uint8), tissue, pen, 1.0, kind)


def _noise(shape: tuple[int, int], cell_px: float, rng: np.random.Generator) -> Layer:
    """Return smooth noise with structures of about `cell_px`, mean 0, standard deviation 1."""
    small = (max(round(shape[0] / cell_px), 2) + 2, max(round(shape[1] / cell_px), 2) + 2)
    noise = cv2.resize(rng.standard_normal(small, np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _blob(
    shape: tuple[int, int], centre: NDArray[np.float64], radius: float, rng: np.random.Generator
) -> Mask:
    """Return an irregular disc: a radius that depends on the angle by five random waves."""
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    wave = sum(
        rng.normal(0, 0.12 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
        for order in range(1, 6)
    )
    reach = radius * (1 + wave)
    stretch = rng.uniform(0.75, 1.3)
    points = centre + np.stack([reach * np.cos(angle) * stretch, reach * np.sin(angle) / stretch], 1)
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
    return canvas.astype(bool)


def _pieces(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Return one to three pieces of tissue; one is large enough to be kept by every method."""
    height, width = shape
    mask = np.zeros(shape, bool)
    for number in range(int(rng.integers(1, 4))):
        radius = min(shape) * (rng.uniform(0.2, 0.4) if number == 0 else rng.uniform(0.16, 0.22))
        mask |= _blob(shape, np.array([width, height]) * rng.uniform(0.25, 0.75, 2), radius, rng)
    return mask


def _open_spaces(tissue: Mask, rng: np.random.Generator) -> Mask:
    """Return lumens inside the tissue, larger than any hole that a mask fills (a radius above 90 px)."""
    shape = (tissue.shape[0], tissue.shape[1])
    mask = np.zeros(shape, bool)
    inside = cv2.distanceTransform(np.pad(tissue, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.nonzero(inside > 150)
    for _ in range(int(rng.integers(1, 3)) if len(rows) else 0):
        at = rng.integers(len(rows))
        mask |= _blob(shape, np.array([columns[at], rows[at]], float), rng.uniform(95, 110), rng)
    return mask


def _stain(stain: Stain, tissue: Mask, rng: np.random.Generator, dab: bool) -> NDArray[np.float64]:
    """Return the optical density (H, W, 3)."""
    shape = (tissue.shape[0], tissue.shape[1])
    stroma = rng.uniform(*stain.stroma_od) * np.clip(
        1 + 0.18 * _noise(shape, 60, rng) + 0.15 * _noise(shape, 7, rng), 0.35, 2.0
    )
    size = rng.uniform(7, 16)  # of nuclei and clusters
    field = _noise(shape, size, rng) + rng.uniform(0, 0.6) * _noise(shape, 80, rng)
    fraction = rng.uniform(*stain.nuclei_fraction)
    nuclei = (field > np.quantile(field, 1 - fraction)) * rng.uniform(*stain.nuclei_od)
    stroma, nuclei = stroma * tissue, nuclei * tissue
    density = stroma[..., None] * np.array(stain.stroma) + nuclei[..., None] * np.array(stain.nuclei)
    if dab:
        rows, columns = np.nonzero(tissue)
        at = rng.integers(len(rows))
        spot = _blob(
            shape, np.array([columns[at], rows[at]], float), min(shape) * rng.uniform(0.06, 0.14), rng
        )
        strength = rng.uniform(0.8, 1.8) * np.clip(1 + 0.2 * _noise(shape, 10, rng), 0.3, 2)
        density = density + (strength * (spot & tissue))[..., None] * np.array(DAB)
    return np.asarray(density, np.float64)


def _illumination(shape: tuple[int, int], rng: np.random.Generator, strength: float) -> Layer:
    """Return uneven light, as a fraction of the glass: a slope and broad clouds, the same in all colours."""
    slope = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :] * rng.uniform(-1, 1)
    return np.asarray(strength * (slope + 0.3 * _noise(shape, max(shape) / 2, rng)), np.float32)


def _strokes(shape: tuple[int, int], tissue: Mask, rng: np.random.Generator) -> Mask:
    """Return a pen stroke beside the tissue: of twenty random ones, that which covers the least tissue."""
    strokes = [_stroke(shape, rng) for _ in range(20)]
    return min(strokes, key=lambda stroke: int((stroke & tissue).sum()))


def _stroke(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    x, y = (np.array(shape[::-1]) * rng.uniform(0.05, 0.95, 2)).tolist()
    angle, points = rng.uniform(0, 2 * np.pi), []
    for _ in range(int(rng.integers(12, 40))):
        points.append((round(x), round(y)))
        angle += rng.normal(0, 0.2)
        x, y = x + 16 * np.cos(angle), y + 16 * np.sin(angle)
    canvas = np.zeros(shape, np.uint8)
    cv2.polylines(canvas, [np.array(points, np.int32)], False, 1, int(rng.uniform(50, 110)))
    return canvas.astype(bool)


def _outside_scan(shape: tuple[int, int], tissue: Mask, rng: np.random.Generator) -> Mask:
    """Return what lies outside a scanned rectangle: a border or a corner of the slide."""
    outside = np.ones(shape, bool)
    top, left = (round(shape[axis] * rng.uniform(0.03, 0.2)) for axis in (0, 1))
    lower, right = (round(shape[axis] * rng.uniform(0.85, 1.0)) for axis in (0, 1))
    outside[top:lower, left:right] = False
    return outside
