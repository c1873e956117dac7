"""The cells of a mosaic: which are tissue, and which belong to a lesion."""

import cv2
import numpy as np
from numpy.random import Generator
from scipy.ndimage import binary_fill_holes

from pipelines.lung.spec import MosaicSpec
from wsi_mil.contracts.arrays import Mask

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def disc(side: int) -> Mask:
    """Return the cells (side, side) of the mosaic that are tissue."""
    at = (np.arange(side) + 0.5) / side * 2 - 1
    return np.asarray(at[:, None] ** 2 + at[None] ** 2 <= 1.05, np.bool_)


def draw_lesions(tissue: Mask, spec: MosaicSpec, rng: Generator) -> list[Mask]:
    """Return a mask of cells per lesion, of the same shape as `tissue`.

    A lesion grows cell by cell over common sides. A cell of normal tissue or more lies between two lesions.
    """
    lesions: list[Mask] = []
    free = tissue.copy()
    for _ in range(int(rng.integers(spec.lesions[0], spec.lesions[1], endpoint=True))):
        starts = np.argwhere(free)
        if not len(starts):
            break
        lesion = np.zeros_like(tissue)
        lesion[tuple(starts[int(rng.integers(len(starts)))])] = True
        for _ in range(int(rng.integers(spec.lesion_images[0], spec.lesion_images[1], endpoint=True)) - 1):
            edge = np.argwhere(cv2.dilate(lesion.astype(np.uint8), CROSS).astype(bool) & free & ~lesion)
            if not len(edge):
                break
            lesion[tuple(edge[int(rng.integers(len(edge)))])] = True
        lesion = binary_fill_holes(
            lesion
        )  # outlines have no holes: an enclosed cell becomes part of the lesion
        lesions.append(lesion)
        free &= ~cv2.dilate(lesion.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return lesions
