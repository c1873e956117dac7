"""Bilinear attention pooling: for every attention map the features where it looks, in two or three
dimensions.

Hu et al., See better before looking closer, 2019 (WS-DAN); Rao et al., Counterfactual attention learning,
ICCV 2021.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6
BATCH_NORM_EPSILON = 1e-3
RESIZE = {2: "bilinear", 3: "trilinear"}


def bilinear_attention_pooling(
    features: Tensor, attention: Tensor, pool: Literal["mean", "max"] = "mean"
) -> Tensor:
    """Return (B, M C): the `features` (B, C, ...) weighted by each map of `attention` (B, M, ...), then
    pooled.

    Pooling is over positions, by mean or maximum; then follow the signed square root and scaling to length 1
    over all M C values. Maps of another size than the features are resized with aligned corners. The dots are
    two or three spatial dimensions.

    >>> found = bilinear_attention_pooling(torch.ones(1, 2, 4, 4), torch.ones(1, 3, 4, 4))
    >>> found.shape, round(float(found.norm()), 4)
    (torch.Size([1, 6]), 1.0)
    """
    size = features.shape[2:]
    if attention.shape[2:] != size:
        attention = F.interpolate(attention, size, mode=RESIZE[len(size)], align_corners=True)
    maps, values = attention.flatten(2), features.flatten(2)  # (B, M, P), (B, C, P)
    if pool == "mean":
        pooled = maps @ values.transpose(1, 2) / values.shape[2]  # (B, M, C)
    else:
        pooled = (maps[:, :, None] * values[:, None]).max(-1).values
    flat = pooled.flatten(1)
    return F.normalize(flat.sign() * (flat.abs() + EPSILON).sqrt(), dim=1)


class AttentionMaps(nn.Module):
    """Features (B, C, ...) to maps (B, M, ...), at least 0: a 1 x 1 convolution, batch norm and ReLU."""

    def __init__(self, channels: int, maps: int, dimensions: Literal[2, 3] = 2) -> None:
        super().__init__()
        convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if dimensions == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv = convolution(channels, maps, 1, bias=False)
        self.bn = norm(maps, eps=BATCH_NORM_EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(features)))
