"""Images with exact truth: small fields of drawn H&E, half of them with a tumour nest, and a form in which colour gives the label away."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import shapely
import torch
from torch import Tensor

from wsi_mil.errors import DataError
from wsi_mil.evaluation import read_annotations
from wsi_mil.raster import rasterize
from wsi_mil.slides import open_slide, read_scaled
from wsi_mil.synthetic import Scanner, SynthSpec, draw_anatomy, paint, write_cohort

SIDE_PX, MPP, FIELD_UM = 64, 3.0, 9000.0
NESTS, GRADE = 200, 3  # more hardly find room in the field, and looking for it takes minutes
COHORT = SynthSpec(pairs=4, itc_share=0)
GLASS_FROM = 225  # mean grey level of a pixel without tissue
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
            integral[y + SIDE_PX, x + SIDE_PX]
            - integral[y, x + SIDE_PX]
            - integral[y + SIDE_PX, x]
            + integral[y, x]
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
        if inside(whole[1], y, x) < 0.8 * SIDE_PX**2 or (
            tumour > 0 if not wanted else tumour < 0.05 * SIDE_PX**2
        ):
            continue
        window = slice(y, y + SIDE_PX), slice(x, x + SIDE_PX)
        pixels.append(field[window])
        masks.append(truth[window])
        labels.append(wanted)
    return _stacked(pixels, masks, labels)


def slide_images(count: int, seed: int, folder: Path) -> Images:
    """Return `count` images of 192 µm out of the slides of a synthetic cohort (three scanners, JPEG), every other one with 5 to 75 % tumour.

    Those without come from all slides, at least a tile away from tumour.
    """
    rng = np.random.default_rng(seed)
    write_cohort(folder, COHORT.model_copy(update={"seed": seed}))
    half = SIDE_PX // 2
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    wanted = count // 2
    for path in sorted((folder / "slides").glob("*.tiff")):
        with open_slide(path) as slide:
            info, field = slide.info, read_scaled(slide, MPP)
        outlines = folder / "annotations" / f"{path.stem}.xml"
        lesions = read_annotations(outlines, path.stem, info) if outlines.exists() else []
        scale = MPP / info.mpp
        truth = rasterize(
            shapely.union_all([lesion.geometry for lesion in lesions]), field.shape[:2], scale, scale
        )
        window = np.ones((SIDE_PX, SIDE_PX))
        share = cv2.boxFilter(truth.astype(np.float32), -1, (SIDE_PX, SIDE_PX))
        near = cv2.dilate(truth.view(np.uint8), np.ones((2 * SIDE_PX + 1, 2 * SIDE_PX + 1), np.uint8)) > 0
        tissue = cv2.boxFilter((field.mean(2) < GLASS_FROM).astype(np.float32), -1, window.shape) > 0.8
        inner = np.zeros_like(truth)
        inner[half:-half, half:-half] = True
        for label, places in enumerate((tissue & ~near & inner, (share > 0.05) & (share < 0.75) & inner)):
            rows, columns = np.nonzero(places)
            for i in rng.permutation(len(rows))[: math.ceil(4 * wanted / COHORT.pairs)]:
                part = slice(rows[i] - half, rows[i] + half), slice(columns[i] - half, columns[i] + half)
                found[label].append((field[part], truth[part]))
    drawn = [[part[i] for i in rng.permutation(len(part))[:wanted]] for part in found]
    if min(map(len, drawn)) < wanted:
        raise DataError(
            f"{[len(part) for part in found]} tiles without and with tumour, {wanted} of each wanted: more slides are needed"
        )
    both = [tile for pair in zip(*drawn, strict=True) for tile in pair]
    return _stacked([pixels for pixels, _ in both], [mask for _, mask in both], [0, 1] * wanted)


def _stacked(pixels: list[np.ndarray], masks: list[np.ndarray], labels: list[int]) -> Images:
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return Images(
        stacked.contiguous(), torch.tensor(labels), torch.from_numpy(np.stack(masks)).float()[:, None]
    )


def standardised(images: Images, by: Images) -> Images:
    """Return the images with mean 0 and deviation 1 of those of `by`, colour by colour: what is covered with 0 has the mean colour, not black."""
    mean, std = by.pixels.mean((0, 2, 3), keepdim=True), by.pixels.std((0, 2, 3), keepdim=True)
    return replace(images, pixels=(images.pixels - mean) / std)


def with_colour_shortcut(images: Images, agreement: float, seed: int) -> Images:
    """Return the images of which some have a colour cast: it says the label for a share `agreement` of them (0.5: it says nothing)."""
    rng = np.random.default_rng(seed)
    agrees = torch.from_numpy(rng.random(len(images.labels)) < agreement)
    tinted = torch.where(agrees, images.labels, 1 - images.labels).bool()
    cast = torch.from_numpy(CAST).float().view(1, 3, 1, 1)
    pixels = torch.where(tinted[:, None, None, None], (images.pixels * cast).clamp(0, 1), images.pixels)
    return Images(pixels, images.labels, images.masks)
