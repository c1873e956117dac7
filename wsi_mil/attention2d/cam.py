"""Grad-CAM: where the last feature maps speak for a class. The baseline for everything here, and the map that GAIN trains.

Selvaraju et al., Grad-CAM, ICCV 2017.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def channel_weights(score: Tensor, features: Tensor, second_order: bool = False) -> Tensor:
    """Return (B, C): the gradient of `score` in `features` (B, C, h, w), averaged over positions, in float32 or better.

    A constant for later gradients, unless `second_order`.
    """
    positions = features.shape[2] * features.shape[3]
    # pooling divides the gradient by the number of positions, which can be too little for float16: multiplied before, divided after
    total = widened(score).sum() * positions
    (gradient,) = torch.autograd.grad(total, features, retain_graph=True, create_graph=second_order)
    weights = widened(gradient).mean((2, 3)) / positions
    return weights if second_order else weights.detach()


def weighted_map(features: Tensor, weights: Tensor) -> Tensor:
    """Return ReLU of the channels (B, C, h, w) times their weights (B, C), summed: (B, 1, h, w), in float32 or better."""
    with torch.autocast(features.device.type, enabled=False):  # or the product would be of few digits again
        return torch.relu(torch.einsum("bchw,bc->bhw", widened(features), widened(weights)))[:, None]


def widened(values: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, wider values as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def grad_cam(features: nn.Module, classifier: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return (B, H, W): the map of class `classes[b]` for every image (B, 3, H, W), at the images' size, not scaled.

    `features`: images to maps; `classifier`: maps to logits. Nothing is trained and no gradient is left behind.

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
