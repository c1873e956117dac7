"""Images of one large drawn field of tissue; every second one has a tumour nest."""

from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from pipelines.attention.images import MPP, SIDE_PX, Images, stacked
from wsi_mil.raster import rasterize
from wsi_mil.synthetic import Scanner, draw_anatomy, paint

FIELD_UM = 9000.0
NESTS, GRADE = 200, 3  # more than 200 nests hardly fit into the field: placing them takes minutes


@dataclass(frozen=True)
class Field:
    """One large drawn image (H, W, 3), its tumour and tissue masks (H, W), and the nests' outlines in µm."""

    pixels: NDArray[np.uint8]
    tumour: NDArray[np.bool_]
    tissue: NDArray[np.bool_]
    outlines: list[shapely.Polygon]


def draw_field(rng: np.random.Generator) -> Field:
    """Return a field of FIELD_UM with at most NESTS nests."""
    anatomy = draw_anatomy(FIELD_UM, FIELD_UM, [("itc", GRADE)] * NESTS, rng, rng)
    pixels = paint(anatomy, Scanner("field", mpp=MPP, blur_um=MPP / 2), rng)
    outlines = [lesion.outline for lesion in anatomy.lesions]
    tumour = rasterize(shapely.union_all(outlines), pixels.shape[:2], MPP, MPP)
    tissue = rasterize(anatomy.tissue, pixels.shape[:2], MPP, MPP)
    return Field(pixels, tumour, tissue, outlines)


def nest_images(count: int, seed: int) -> Images:
    """Return `count` images of 192 µm from one field; every second one has a nest of 60 to 170 µm.

    The nest is anywhere in the image and at least partly inside: it covers 5 % or more of it. Images without
    a nest have no tumour at all. 80 % of an image or more is tissue.
    """
    rng = np.random.default_rng(seed)
    field = draw_field(rng)
    tumour_sums, tissue_sums = (
        cv2.integral(field.tumour.view(np.uint8)),
        cv2.integral(field.tissue.view(np.uint8)),
    )
    free = len(field.pixels) - SIDE_PX
    pixels: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    labels: list[int] = []
    nests = rng.permutation(len(field.outlines)).tolist()
    drawn = 0
    while len(pixels) < count:
        wanted = len(pixels) % 2
        if wanted:
            outline = field.outlines[nests[drawn % len(nests)]]
            drawn += 1
            centre = np.array(outline.centroid.coords[0]) / MPP + rng.uniform(-0.35, 0.35, 2) * SIDE_PX
            x, y = (round(value - SIDE_PX / 2) for value in centre)
        else:
            x, y = (int(value) for value in rng.integers(0, free, 2))
        if not (0 <= x <= free and 0 <= y <= free) or _window_sum(tissue_sums, x, y) < 0.8 * SIDE_PX**2:
            continue
        tumour = _window_sum(tumour_sums, x, y)
        if (wanted and tumour < 0.05 * SIDE_PX**2) or (not wanted and tumour > 0):
            continue
        window = slice(y, y + SIDE_PX), slice(x, x + SIDE_PX)
        pixels.append(field.pixels[window])
        masks.append(field.tumour[window])
        labels.append(wanted)
    return stacked(pixels, masks, labels)


def _window_sum(integral: np.ndarray, x: int, y: int) -> int:
    """Return the sum over the image with its upper left corner at (x, y), from an integral image."""
    lower, right = y + SIDE_PX, x + SIDE_PX
    return int(integral[lower, right] - integral[y, right] - integral[lower, x] + integral[y, x])
