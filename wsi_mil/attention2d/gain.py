"""GAIN: trained attention maps. What an image looks like without the area under its map must not be its
class.

Li et al., Tell me where to look: guided attention inference network, CVPR 2018. Where the paper does not give
a form or a constant, it is that of the public code. From the paper: sigma 0.5, omega 10, scaling per image,
softmax score of the masked image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.attention2d.cam import channel_weights, weighted_map, widened
from wsi_mil.errors import DataError

EXTERNAL_WEIGHT = 10.0
SCALING_GUARD = 2.220446049250313e-16


@dataclass(frozen=True)
class GAINOutput:
    """Outputs for B images and N explained pairs of an image and its classes.

    features (B, C, h, w), logits (B, K): of the images. rows (N,): the image of each pair. targets (N, K):
    the classes that its map explains. maps (N, 1, H, W): from 0 to 1, at the images' size; masks: the same
    after the sigmoid. masked_logits (N, K): of the images without what the masks cover.
    """

    features: Tensor
    logits: Tensor
    rows: Tensor
    targets: Tensor
    maps: Tensor
    masks: Tensor
    masked_logits: Tensor


class GAIN(nn.Module):
    """`features`: images to maps (B, C, h, w); `classifier`: maps to logits (B, K). Both passes share them.

    `second_order`: the channel weights of the map get gradients, too; the published code takes them as
    constants. `per_class`: a map for each true class of an image, instead of one for all of them together.
    Under autocast the two passes run in its precision, maps and losses in float32.

    >>> features = nn.Conv2d(3, 4, 3)
    >>> head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> model, targets = GAIN(features, head), torch.tensor([[0, 1], [1, 0]])
    >>> output = model(torch.rand(2, 3, 16, 16), targets)
    >>> output.maps.shape, sorted(model.losses(output, targets))
    (torch.Size([2, 1, 16, 16]), ['classification', 'mining'])

    Train the classifier alone first, until its maps show something and its batch norms know the data: GAIN
    does not update batch norms. Then continue with a small learning rate. A map that is 0 everywhere covers
    nothing; the mining loss then only lowers the score of the class itself.
    """

    def __init__(
        self,
        features: nn.Module,
        classifier: nn.Module,
        *,
        sigma: float = 0.5,
        omega: float = 10.0,
        alpha: float = 1.0,
        form: Literal["multi_label", "single_label"] = "multi_label",
        second_order: bool = False,
        per_class: bool = False,
    ) -> None:
        super().__init__()
        self.features, self.classifier = features, classifier
        self.sigma, self.omega, self.alpha = sigma, omega, alpha
        self.form, self.second_order, self.per_class = form, second_order, per_class

    def forward(self, images: Tensor, targets: Tensor | None = None) -> GAINOutput:
        """Return logits, maps, and the logits of the masked images.

        `targets` (B, K), 0 or 1: the classes to explain; default: the class with the highest logit.
        """
        with torch.enable_grad(), norms_at_rest(self):
            values = self.features(images)
            if not values.requires_grad:
                values = values.detach().requires_grad_()
            logits = self.classifier(values)
            if targets is None:
                targets = F.one_hot(logits.argmax(1), logits.shape[1])
            rows, explained = _pairs(targets, self.per_class)
            weights = self._weights(logits, values, rows, explained)
            maps = scaled_map(weighted_map(values[rows], weights), images.shape[2:])
            masks = torch.sigmoid(self.omega * (maps - self.sigma))
            chosen = images[rows]
            masked_logits = self.classifier(self.features(chosen - chosen * masks.to(images.dtype)))
        return GAINOutput(values, logits, rows, explained, maps, masks, masked_logits)

    def _weights(self, logits: Tensor, values: Tensor, rows: Tensor, explained: Tensor) -> Tensor:
        """Return the channel weights (N, C) of every pair.

        The first pairs of all images share one backward pass, the second pairs the next one, and so on.
        """
        first = torch.searchsorted(rows, rows)
        turn = torch.arange(len(rows), device=rows.device) - first
        found, order = [], []
        for number in range(int(turn.max()) + 1 if len(turn) else 0):
            (pairs,) = torch.nonzero(turn == number, as_tuple=True)
            score = (logits[rows[pairs]] * explained[pairs]).sum(1)
            found.append(channel_weights(score, values, self.second_order)[rows[pairs]])
            order.append(pairs)
        if not found:
            return values.new_zeros(0, values.shape[1])
        return torch.cat(found)[torch.cat(order).argsort()]

    def losses(
        self, output: GAINOutput, labels: Tensor, masks: Tensor | None = None, has_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the terms of the loss; `labels`: (B, K) 0 or 1, or (B,) class numbers in the single-label
        form.

        classification: cross-entropy. mining: the score of the true classes in the masked images, times
        alpha. external (GAIN_ext): 10 times the squared difference of map and mask (B, 1, H, W), over the
        images where `has_mask` (B,) is true. Raises DataError if masks and maps differ in size.
        """
        logits = widened(output.logits)
        if self.form == "multi_label":
            terms = {"classification": F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))}
        else:
            terms = {"classification": F.cross_entropy(logits, labels)}
        scores = (widened(output.masked_logits).softmax(1) * output.targets).sum(1) / output.targets.sum(
            1
        ).clamp_min(1)
        terms["mining"] = self.alpha * scores.sum() / max(len(scores), 1)
        if masks is not None:
            chosen = (
                torch.ones(len(masks), dtype=torch.bool, device=masks.device)
                if has_mask is None
                else has_mask
            )
            wanted = chosen[output.rows]
            if masks.shape[2:] != output.maps.shape[2:]:
                raise DataError(
                    f"external masks of {tuple(masks.shape[2:])} px, maps of {tuple(output.maps.shape[2:])}: "
                    "give masks of the images' size"
                )
            if bool(wanted.any()):
                difference = output.maps[wanted] - masks[output.rows][wanted].to(output.maps.dtype)
                terms["external"] = EXTERNAL_WEIGHT * difference.square().mean()
        return terms


def scaled_map(small: Tensor, size: torch.Size) -> Tensor:
    """Return maps (N, 1, h, w) at `size`, each scaled to [0, 1]; a map that is 0 everywhere stays 0."""
    whole = F.interpolate(small, size, mode="bilinear", align_corners=True)
    flat = whole.flatten(1)
    low, high = flat.amin(1).view(-1, 1, 1, 1), flat.amax(1).view(-1, 1, 1, 1)
    return (whole - low) / (high - low + SCALING_GUARD)


@contextmanager
def norms_at_rest(network: nn.Module) -> Iterator[None]:
    """Put batch norms into evaluation mode.

    They must not learn from masked images, which are no images of the data. And if their statistics differed
    between the two passes, the network could learn this difference instead of what the mask covers.
    """
    moving = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]
    for module in moving:
        module.eval()
    try:
        yield
    finally:
        for module in moving:
            module.train()


def _pairs(targets: Tensor, per_class: bool) -> tuple[Tensor, Tensor]:
    """Return rows (N,) and targets (N, K) of what is explained: each image, or each of its classes."""
    if not per_class:
        return torch.arange(len(targets), device=targets.device), targets
    rows, classes = torch.nonzero(targets, as_tuple=True)
    return rows, F.one_hot(classes, targets.shape[1])
