"""Does a map point at the object? Three answers for one image, each against its truth mask."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wsi_mil.errors import DataError

THRESHOLD, INSIDE = 0.5, 0.5


@dataclass(frozen=True)
class Localisation:
    """Three answers per image, (B,) each.

    pointing: the largest value lies in the object. top_position: at least half of the patch of the largest
    position lies in the box around the object. iou: intersection over union of the object and the map above
    half of its range.
    """

    pointing: Tensor
    top_position: Tensor
    iou: Tensor


def localise(maps: Tensor, truth: Tensor, grid: tuple[int, int]) -> Localisation:
    """Return how well `maps` (B, H, W) find the objects, `truth` (B, H, W) bool.

    grid: rows and columns of positions that the network distinguishes. Raises DataError for an image without
    an object. Zhang et al., Top-down neural attention by excitation backprop, 2016 (pointing game); Shi et
    al., AAAI 2020 (top position).

    >>> truth = torch.zeros(1, 4, 4, dtype=torch.bool)
    >>> truth[0, :2, :2] = True
    >>> found = localise(truth.float(), truth, (2, 2))
    >>> bool(found.pointing), bool(found.top_position), float(found.iou)
    (True, True, 1.0)
    """
    if not bool(truth.flatten(1).any(1).all()):
        raise DataError("an image without an object has nothing to be found: leave it out")
    height, width = truth.shape[1:]
    flat = maps.flatten(1)
    pointing = truth.flatten(1).gather(1, flat.argmax(1, keepdim=True))[:, 0]
    coarse = F.adaptive_avg_pool2d(maps[:, None], grid)[:, 0].flatten(1).argmax(1)
    rows, columns = coarse // grid[1], coarse % grid[1]
    top_position = torch.stack(
        [
            _fraction_in_box(
                truth[i], (r * height / grid[0], c * width / grid[1]), (height / grid[0], width / grid[1])
            )
            >= INSIDE
            for i, (r, c) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True))
        ]
    )
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    found = ((flat - low) > THRESHOLD * (high - low)).view_as(truth)
    union = (found | truth).flatten(1).sum(1)
    iou = (found & truth).flatten(1).sum(1) / union
    return Localisation(pointing, top_position, iou)


def _fraction_in_box(truth: Tensor, corner: tuple[float, float], size: tuple[float, float]) -> Tensor:
    """Return the fraction of a patch that lies in the box around the object."""
    rows, columns = torch.nonzero(truth, as_tuple=True)
    inside = 1.0
    for start, length, low, high in zip(
        corner, size, (rows.min(), columns.min()), (rows.max() + 1, columns.max() + 1), strict=True
    ):
        inside *= max(min(start + length, float(high)) - max(start, float(low)), 0.0) / length
    return torch.tensor(inside)
