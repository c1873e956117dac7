"""Images with exact truth: small fields of drawn H&E, half of them with a tumour nest, and a form in which colour gives the label away."""

from dataclasses import dataclass

import cv2
import numpy as np
import shapely
import torch
from torch import Tensor

from wsi_mil.raster import rasterize
from wsi_mil.synthetic import Scanner, draw_anatomy, paint

SIDE_PX, MPP, FIELD_UM = 64, 3.0, 9000.0
NESTS, GRADE = 200, 3  # more hardly find room in the field, and looking for it takes minutes
CAST = np.array([0.82, 0.92, 1.08])
"""Factors of red, green and blue: the bluer slide of another laboratory."""


@dataclass(frozen=True)
class Images:
    """pixels (N, 3, S, S) float32 from 0 to 1; labels (N,) 1 with a nest; masks (N, 1, S, S) float32, 1 in the nest."""

    pixels: Tensor
    labels: Tensor
    masks: Tensor


def nest_images(count: int, seed: int) -> Images:
    """Return `count` images of 192 µm, every other one with one nest of 60 to 170 µm wholly or mostly inside, anywhere in it."""
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(FIELD_UM, FIELD_UM, [("itc", GRADE)] * NESTS, rng, rng)
    field = paint(anatomy, Scanner("field", mpp=MPP, blur_um=MPP / 2), rng)
    area = shapely.union_all([lesion.outline for lesion in anatomy.lesions])
    truth = rasterize(area, field.shape[:2], MPP, MPP)
    tissue = rasterize(anatomy.tissue, field.shape[:2], MPP, MPP)
    whole = cv2.integral(truth.view(np.uint8)), cv2.integral(tissue.view(np.uint8))

    def inside(integral: np.ndarray, y: int, x: int) -> int:
        return int(
            integral[y + SIDE_PX, x + SIDE_PX] - integral[y, x + SIDE_PX] - integral[y + SIDE_PX, x] + integral[y, x]
        )

    pixels: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    labels: list[int] = []
    nests = rng.permutation(len(anatomy.lesions)).tolist()
    drawn = 0
    while len(pixels) < count:
        wanted = len(pixels) % 2
        if wanted:
            outline = anatomy.lesions[nests[drawn % len(nests)]].outline
            drawn += 1
            centre = np.array(outline.centroid.coords[0]) / MPP + rng.uniform(-0.35, 0.35, 2) * SIDE_PX
            x, y = (round(value - SIDE_PX / 2) for value in centre)
        else:
            x, y = (int(value) for value in rng.integers(0, len(field) - SIDE_PX, 2))
        if not (0 <= x <= len(field) - SIDE_PX and 0 <= y <= len(field) - SIDE_PX):
            continue
        tumour = inside(whole[0], y, x)
        if inside(whole[1], y, x) < 0.8 * SIDE_PX**2 or (tumour > 0 if not wanted else tumour < 0.05 * SIDE_PX**2):
            continue
        window = slice(y, y + SIDE_PX), slice(x, x + SIDE_PX)
        pixels.append(field[window])
        masks.append(truth[window])
        labels.append(wanted)
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return Images(stacked.contiguous(), torch.tensor(labels), torch.from_numpy(np.stack(masks)).float()[:, None])


def with_colour_shortcut(images: Images, agreement: float, seed: int) -> Images:
    """Return the images of which some have a colour cast: it says the label for a share `agreement` of them (0.5: it says nothing)."""
    rng = np.random.default_rng(seed)
    agrees = torch.from_numpy(rng.random(len(images.labels)) < agreement)
    tinted = torch.where(agrees, images.labels, 1 - images.labels).bool()
    cast = torch.from_numpy(CAST).float().view(1, 3, 1, 1)
    pixels = torch.where(tinted[:, None, None, None], (images.pixels * cast).clamp(0, 1), images.pixels)
    return Images(pixels, images.labels, images.masks)
