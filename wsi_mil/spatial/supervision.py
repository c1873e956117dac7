"""What people draw, as masks that GAIN_ext learns from."""

import torch
from torch import Tensor


def box_masks(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B, 1, H, W) float32, 1 inside each of `boxes` (B, 4): x0, y0, x1, y1 in pixels, the last ones not included.

    >>> box_masks(torch.tensor([[1, 0, 3, 1]]), (2, 4))[0, 0].tolist()
    [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    rows, columns = (torch.arange(length, device=boxes.device) for length in size)
    x0, y0, x1, y1 = (boxes[:, i, None] for i in range(4))
    inside_y, inside_x = (rows >= y0) & (rows < y1), (columns >= x0) & (columns < x1)
    return (inside_y[:, :, None] & inside_x[:, None, :]).float()[:, None]
