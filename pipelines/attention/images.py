"""Images with exact truth for the study of attention: their record, their scale, and colour as a shortcut."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

SIDE_PX, MPP = 64, 3.0
CAST = np.array([0.82, 0.92, 1.08])
"""Factors of red, green and blue of a bluer image, as from another laboratory."""


@dataclass(frozen=True)
class Images:
    """Images with labels and masks.

    pixels: (N, 3, S, S) float32, from 0 to 1. labels: (N,), 1 with a nest, 0 without. masks: (N, 1, S, S)
    float32, 1 in the nest.
    """

    pixels: Tensor
    labels: Tensor
    masks: Tensor


def stacked(pixels: list[np.ndarray], masks: list[np.ndarray], labels: list[int]) -> Images:
    """Return images from uint8 pixels (S, S, 3), boolean masks (S, S) and labels, one of each per image."""
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return Images(
        stacked.contiguous(), torch.tensor(labels), torch.from_numpy(np.stack(masks)).float()[:, None]
    )


def standardised(images: Images, by: Images) -> Images:
    """Return the images minus the mean of `by`, divided by its standard deviation, for each colour.

    A position that a method covers with 0 then has the mean colour, not black.
    """
    mean, std = by.pixels.mean((0, 2, 3), keepdim=True), by.pixels.std((0, 2, 3), keepdim=True)
    return replace(images, pixels=(images.pixels - mean) / std)


def with_colour_shortcut(images: Images, agreement: float, seed: int) -> Images:
    """Return the images, some of them with a colour cast that goes with the label.

    agreement: the fraction of images whose colour agrees with their label; 0.5 means that colour says
    nothing.
    """
    rng = np.random.default_rng(seed)
    agrees = torch.from_numpy(rng.random(len(images.labels)) < agreement)
    tinted = torch.where(agrees, images.labels, 1 - images.labels).bool()
    cast = torch.from_numpy(CAST).float().view(1, 3, 1, 1)
    pixels = torch.where(tinted[:, None, None, None], (images.pixels * cast).clamp(0, 1), images.pixels)
    return Images(pixels, images.labels, images.masks)
