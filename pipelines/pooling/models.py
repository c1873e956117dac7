"""ResNet-18 for small images, with different poolings instead of global average pooling."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from wsi_mil.attention2d import CAL, LossAttentionPool2d

CHANNELS, GRID = 512, (4, 4)
POOLINGS = ("mean", "max", "attention", "loss-attention", "loss-attention without L3", "CAL")
LOSS_ATTENTION = POOLINGS[3:5]
"""Loss-attention as published, and without L3, which keeps attention near its average over epochs."""


def backbone(side_px: int) -> nn.Module:
    """Return ResNet-18 without its head, with maps of 4 x 4 positions.

    For small images the first convolution is 3 x 3, and no max-pooling follows it.
    """
    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(3, 64, 3, side_px // 32, 1, bias=False)
    network.maxpool = nn.Identity()
    return nn.Sequential(*list(network.children())[:-2])


class Pooled(nn.Module):
    """ResNet-18 with one pooling.

    `forward` returns logits (B, K) and how much each position counts (B, h, w).
    """

    def __init__(
        self, pooling: str, classes: int, side_px: int, images: int, epochs: int, seed: int, cal_views: bool
    ) -> None:
        super().__init__()
        self.pooling, self.cal_views = pooling, cal_views
        self.features: nn.Module = backbone(side_px)
        if pooling == "CAL":
            self.cal = CAL(self.features, CHANNELS, classes, generator=torch.Generator().manual_seed(seed))
        elif pooling in LOSS_ATTENTION:
            self.head = LossAttentionPool2d(
                CHANNELS,
                classes,
                images=images if pooling == "loss-attention" else 0,  # L3 keeps an average for every image
                positions=math.prod(GRID),
                ramp_epochs=max(round(0.4 * epochs), 1),
            )
        else:
            self.fc = nn.Linear(CHANNELS, classes)
            self.attention = nn.Sequential(nn.Linear(CHANNELS, 128), nn.Tanh(), nn.Linear(128, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.pooling == "CAL":
            output = self.cal(images)
            return output.logits, output.attention.mean(1)
        maps = self.features(images)
        if self.pooling in LOSS_ATTENTION:
            pooled = self.head(maps)
            return pooled.logits, pooled.attention.unflatten(1, maps.shape[2:])
        positions = maps.flatten(2).transpose(1, 2)  # (B, P, C)
        if self.pooling == "attention":
            weights = self.attention(positions).softmax(1)
            return self.fc((weights * positions).sum(1)), weights[..., 0].unflatten(1, maps.shape[2:])
        logits: Tensor = self.fc(positions.mean(1) if self.pooling == "mean" else positions.amax(1))
        # mean and max have no weights: take each position's logit of the predicted class
        predicted = logits.argmax(1)[:, None, None].expand(-1, positions.shape[1], 1)
        return logits, self.fc(positions).gather(2, predicted)[..., 0].unflatten(1, maps.shape[2:])

    def loss(self, images: Tensor, labels: Tensor, numbers: Tensor) -> Tensor:
        """Return the training loss. numbers (B,): which training images these are, for L3."""
        if self.pooling == "CAL":
            output = self.cal(images)
            others = (
                [self.cal(view) for view in self.cal.augment(images, output.attention)]
                if self.cal_views
                else []
            )
            return torch.stack(list(self.cal.losses(output, labels, others).values())).sum()
        if self.pooling in LOSS_ATTENTION:
            terms = self.head.losses(self.head(self.features(images)), labels, numbers)
            return torch.stack(list(terms.values())).sum()
        return F.cross_entropy(self(images)[0], labels)
