"""Loss-attention as a pooling layer: positions of a feature map are instances, weighted by the classifier
itself.

Shi et al., Loss-based attention for deep multiple instance learning, AAAI 2020; weights and schedule of its
published image code.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.errors import DataError

RAMP_EPOCHS, KEPT = 80, 0.6


@dataclass(frozen=True)
class PooledMaps:
    """Outputs for B images, K classes and h w positions.

    logits (B, K). attention (B, h w): sums to 1. position_logits (B, h w, K). maps (B, K, h, w), or at the
    requested size: how much of a class's score each position contributes.
    """

    logits: Tensor
    attention: Tensor
    position_logits: Tensor
    maps: Tensor


class LossAttentionPool2d(nn.Module):
    """Feature maps (B, C, h, w) to logits (B, classes): in place of global pooling and the last layer.

    `images`: the number of training images, if attention is to stay close to its average over earlier epochs;
    then give `losses` the numbers of the images, and call `end_epoch` after every epoch. The weight of this
    term grows over `ramp_epochs`.

    >>> head = LossAttentionPool2d(8, 3)
    >>> output = head(torch.rand(2, 8, 4, 4))
    >>> output.logits.shape, bool(torch.allclose(output.attention.sum(1), torch.ones(2)))
    (torch.Size([2, 3]), True)
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        images: int = 0,
        positions: int = 0,
        lambda_: float = 1.0,
        omega: float = 400.0,
        ramp_epochs: int = RAMP_EPOCHS,
    ) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, classes)
        self.lambda_, self.omega, self.ramp_epochs = lambda_, omega, ramp_epochs
        self.epoch = 0
        self.average: Tensor
        self.seen: Tensor
        self.register_buffer("average", torch.zeros(images, positions))
        self.register_buffer("seen", torch.zeros(images, positions))

    def forward(self, maps: Tensor, size: tuple[int, int] | None = None) -> PooledMaps:
        """Return logits, attention, and maps per class; `size` (H, W): resize the maps to it."""
        height, width = maps.shape[2:]
        positions = maps.flatten(2).transpose(1, 2)  # (B, P, C)
        logits = self.fc(positions)
        attention = logits.logsumexp(2).softmax(1)  # sum_c exp(z_jc) / sum_t sum_c exp(z_tc), eq. 5
        pooled = (attention[..., None] * positions).sum(1)
        classes = logits.softmax(2) * attention[..., None]
        shown = classes.transpose(1, 2).unflatten(2, (height, width))
        if size is not None:
            shown = F.interpolate(shown, size, mode="bilinear", align_corners=True)
        return PooledMaps(self.fc(pooled), attention, logits, shown)

    @property
    def consistency_weight(self) -> float:
        """The weight omega exp(-5 (1 - t)^2), t from 0 to 1 over `ramp_epochs`; 0 in the first epoch."""
        if self.epoch == 0:
            return 0.0
        return self.omega * math.exp(-5 * (1 - min(self.epoch / self.ramp_epochs, 1)) ** 2)

    def losses(self, output: PooledMaps, labels: Tensor, numbers: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms of the loss; `numbers` (B,): which training images these are.

        image: cross-entropy. positions: lambda times the mean of attention times the cross-entropy of a
        position with the image's label. consistency: squared difference of attention and its average over
        earlier epochs. Raises DataError if the latter is asked for and `numbers` are missing.
        """
        batch, positions = output.attention.shape
        losses = F.cross_entropy(
            output.position_logits.flatten(0, 1), labels.repeat_interleave(positions), reduction="none"
        )
        terms = {
            "image": F.cross_entropy(output.logits, labels),
            "positions": self.lambda_ * (output.attention * losses.view(batch, positions)).mean(),
        }
        if len(self.average):
            if numbers is None or positions != self.average.shape[1]:
                raise DataError(
                    f"steady attention over {len(self.average)} images of {self.average.shape[1]} positions "
                    f"needs the images' numbers and that many positions, got {positions}"
                )
            target = self.average[numbers] / max(1 - KEPT**self.epoch, 1e-12)
            terms["consistency"] = self.consistency_weight * F.mse_loss(output.attention, target)
            self.seen[numbers] = output.attention.detach().to(self.seen.dtype)
        return terms

    def end_epoch(self) -> None:
        """Update the averages with this epoch's attention: average <- 0.6 average + 0.4 attention."""
        self.average.mul_(KEPT).add_(self.seen, alpha=1 - KEPT)
        self.epoch += 1
