"""Grad-CAM: where the last feature maps speak for a class. A baseline, and the map that GAIN trains.

Selvaraju et al., Grad-CAM, ICCV 2017.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def channel_weights(score: Tensor, features: Tensor, second_order: bool = False) -> Tensor:
    """Return (B, C): the gradient of `score` with respect to `features` (B, C, h, w), mean over positions.

    At least float32. A constant for later gradients, unless `second_order`.
    """
    positions = features.shape[2] * features.shape[3]
    # Pooling divides the gradient by the number of positions, and the result can be too small for float16:
    # so the score is multiplied first, and the weights are divided afterwards.
    total = widened(score).sum() * positions
    (gradient,) = torch.autograd.grad(total, features, retain_graph=True, create_graph=second_order)
    weights = widened(gradient).mean((2, 3)) / positions
    return weights if second_order else weights.detach()


def weighted_map(features: Tensor, weights: Tensor) -> Tensor:
    """Return (B, 1, h, w): ReLU of the sum of channels (B, C, h, w) times weights (B, C)."""
    with torch.autocast(features.device.type, enabled=False):  # otherwise the product loses digits
        return torch.relu(torch.einsum("bchw,bc->bhw", widened(features), widened(weights)))[:, None]


def widened(values: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, wider values as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def grad_cam(features: nn.Module, classifier: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return (B, H, W): the map of class `classes[b]` for every image (B, 3, H, W), not scaled.

    `features`: images to maps; `classifier`: maps to logits. Nothing is trained, and parameters keep their
    gradients.

    >>> head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> grad_cam(nn.Conv2d(3, 4, 3), head, torch.rand(2, 3, 16, 16), torch.tensor([0, 1])).shape
    torch.Size([2, 16, 16])
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
