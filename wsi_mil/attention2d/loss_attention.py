"""Loss-attention instead of global pooling: the positions of a feature map are instances, weighed by the classifier itself.

Shi et al., Loss-based attention for deep multiple instance learning, AAAI 2020; weights and schedule of its published image code.
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
    """logits (B, K); attention (B, h w), sums to 1; position_logits (B, h w, K); maps (B, K, h, w), or at the asked size: each position's
    share of a class."""

    logits: Tensor
    attention: Tensor
    position_logits: Tensor
    maps: Tensor


class LossAttentionPool2d(nn.Module):
    """Feature maps (B, C, h, w) to logits of `classes`: in place of global pooling and the last layer.

    `images`: how many there are to train on, if attention is to be steady from epoch to epoch (then `losses` wants their numbers, and
    `end_epoch` is called after every epoch); the weight of that grows over `ramp_epochs`.

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
        """Return logits, attention, and maps per class; `size`: of the images, if the maps are wanted at it."""
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
        """omega exp(-5 (1 - t)^2) with t from 0 to 1 over `ramp_epochs`; 0 in the first."""
        if self.epoch == 0:
            return 0.0
        return self.omega * math.exp(-5 * (1 - min(self.epoch / self.ramp_epochs, 1)) ** 2)

    def losses(self, output: PooledMaps, labels: Tensor, numbers: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms of the loss: image; positions: lambda times the mean of attention times CE of each position with the image's
        label; consistency: attention against its average over the epochs before. `numbers` (B,): which images these are."""
        batch, positions = output.attention.shape
        each = F.cross_entropy(
            output.position_logits.flatten(0, 1), labels.repeat_interleave(positions), reduction="none"
        )
        terms = {
            "image": F.cross_entropy(output.logits, labels),
            "positions": self.lambda_ * (output.attention * each.view(batch, positions)).mean(),
        }
        if len(self.average):
            if numbers is None or positions != self.average.shape[1]:
                raise DataError(
                    f"steady attention over {len(self.average)} images of {self.average.shape[1]} positions needs the images' numbers and "
                    f"that many positions, got {positions}"
                )
            target = self.average[numbers] / max(1 - KEPT**self.epoch, 1e-12)
            terms["consistency"] = self.consistency_weight * F.mse_loss(output.attention, target)
            self.seen[numbers] = output.attention.detach().to(self.seen.dtype)
        return terms

    def end_epoch(self) -> None:
        """Take this epoch's attention into the averages: average <- 0.6 average + 0.4 attention."""
        self.average.mul_(KEPT).add_(self.seen, alpha=1 - KEPT)
        self.epoch += 1
