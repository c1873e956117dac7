"""Grad-CAM: where the last feature maps speak for a class. The baseline for everything here, and the map that GAIN trains.

Selvaraju et al., Grad-CAM, ICCV 2017.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def channel_weights(score: Tensor, features: Tensor, second_order: bool = False) -> Tensor:
    """Return (B, C): the gradient of `score` in `features` (B, C, h, w), averaged over positions.

    A constant for later gradients, unless `second_order`.
    """
    (gradient,) = torch.autograd.grad(score.sum(), features, retain_graph=True, create_graph=second_order)
    weights = gradient.mean((2, 3))
    return weights if second_order else weights.detach()


def weighted_map(features: Tensor, weights: Tensor) -> Tensor:
    """Return ReLU of the channels (B, C, h, w) times their weights (B, C), summed: (B, 1, h, w), in float32 or better."""
    wide = torch.promote_types(features.dtype, torch.float32)
    return torch.relu(torch.einsum("bchw,bc->bhw", features.to(wide), weights.to(wide)))[:, None]


def grad_cam(features: nn.Module, classifier: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return (B, H, W): the map of class `classes[b]` for every image (B, 3, H, W), at the images' size, not scaled.

    `features`: images to maps; `classifier`: maps to logits. Nothing is trained and no gradient is left behind.
    """
    with torch.enable_grad():
        maps = features(images)
        if not maps.requires_grad:
            maps = maps.detach().requires_grad_()
        logits = classifier(maps)
        weights = channel_weights(logits.gather(1, classes[:, None]), maps)
    with torch.no_grad():
        found = weighted_map(maps, weights)
        return F.interpolate(found, images.shape[2:], mode="bilinear", align_corners=True)[:, 0]
