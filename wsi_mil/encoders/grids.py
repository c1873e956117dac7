"""Position embeddings of another grid of patches than the network's, resampled as the authors' code does."""

from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from wsi_mil.encoders.published.record import Grid


def fit_grid(tensors: dict[str, Tensor], own: Tensor | None, prefix: int, grid: Grid) -> dict[str, Tensor]:
    """Return the tensors with `trunk.pos_embed` resampled to the network's square grid.

    `own`: the network's position embeddings (1, prefix + patches, D); `prefix`: those of the class token and
    registers, which are kept. What has the right shape already, or is no square grid, is returned as it is.

    >>> positions = torch.ones(1, 1 + 16, 2)
    >>> fit_grid({"trunk.pos_embed": positions}, torch.ones(1, 1 + 4, 2), 1, "timm")["trunk.pos_embed"].shape
    torch.Size([1, 5, 2])
    """
    key = "trunk.pos_embed"
    found = tensors.get(key)
    if grid == "same" or own is None or found is None or found.shape == own.shape:
        return tensors
    if found.dim() != 3 or found.shape[2] != own.shape[2]:
        return tensors
    old, new = isqrt(max(found.shape[1] - prefix, 0)), isqrt(own.shape[1] - prefix)
    if old < 1 or old**2 != found.shape[1] - prefix:
        return tensors
    maps = found[:, prefix:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)  # -> (1, D, old, old)
    if grid == "ibot":  # its code adds 0.1 to the new side, against rounding errors
        maps = F.interpolate(maps, scale_factor=(new + 0.1) / old, mode="bicubic")
    else:
        maps = F.interpolate(maps, size=(new, new), mode="bicubic", antialias=grid == "timm")
    patches = maps.permute(0, 2, 3, 1).reshape(1, new * new, -1)
    return {**tensors, key: torch.cat([found[:, :prefix].float(), patches], 1)}
