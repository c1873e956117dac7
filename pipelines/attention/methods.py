"""The compared methods: classifiers with maps of the positions that they use, behind one interface."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_mil.attention2d import CAL, GAIN, LossAttentionPool2d, grad_cam
from wsi_mil.attention2d.backbones import SMALL_CHANNELS, SmallBackbone

MAPS, NEST = 8, 1
CLASSIFICATION_ONLY = 0.25
"""Fraction of the epochs before GAIN uses its map: at first the map shows nothing useful."""


def head() -> nn.Sequential:
    """Return global average pooling and a linear layer: maps (B, C, h, w) -> logits (B, 2)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(SMALL_CHANNELS, 2))


@dataclass(frozen=True)
class Batch:
    """Images (B, 3, S, S), labels (B,) and masks (B, 1, S, S).

    has_mask: (B,), whose mask the method may use. done: the fraction of training that is over, 0 to 1.
    """

    pixels: Tensor
    labels: Tensor
    masks: Tensor
    has_mask: Tensor
    done: float


class Method(nn.Module, ABC):
    """A classifier with its loss, and its maps of the nest."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the training loss, a scalar."""

    @abstractmethod
    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits (B, 2) of images (B, 3, S, S)."""

    @abstractmethod
    def maps(self, pixels: Tensor) -> Tensor:
        """Return how much each pixel speaks for a nest (B, S, S)."""


class Plain(Method):
    """Training by cross-entropy; the maps are Grad-CAM's."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = SmallBackbone(), head()

    def loss(self, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(self.logits(batch.pixels), batch.labels)

    def logits(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.head(self.features(pixels))
        return found

    def maps(self, pixels: Tensor) -> Tensor:
        return grad_cam(
            self.features, self.head, pixels, torch.full((len(pixels),), NEST, device=pixels.device)
        )


class Guided(Method):
    """GAIN on the images with a nest; GAIN_ext if some of them have a mask.

    One sigmoid per class, as published.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plain = Plain()

    def loss(self, batch: Batch) -> Tensor:
        both = nn.functional.one_hot(batch.labels, 2)
        if batch.done < CLASSIFICATION_ONLY:
            return nn.functional.binary_cross_entropy_with_logits(self.logits(batch.pixels), both.float())
        model = GAIN(self.plain.features, self.plain.head, per_class=True)
        output = model(batch.pixels, both * torch.tensor([0, 1], device=both.device))
        return torch.stack(list(model.losses(output, both, batch.masks, batch.has_mask).values())).sum()

    def logits(self, pixels: Tensor) -> Tensor:
        return self.plain.logits(pixels)

    def maps(self, pixels: Tensor) -> Tensor:
        return self.plain.maps(pixels)


class Counterfactual(Method):
    """CAL with attention crops and attention drops as further views."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.model = CAL(SmallBackbone(), SMALL_CHANNELS, 2, maps=MAPS, generator=generator)

    def loss(self, batch: Batch) -> Tensor:
        output = self.model(batch.pixels)
        others = [self.model(view) for view in self.model.augment(batch.pixels, output.attention)]
        return torch.stack(list(self.model.losses(output, batch.labels, others).values())).sum()

    def logits(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.model(pixels).logits
        return found

    def maps(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.model(pixels).maps[:, NEST]
        return found


class LossAttention(Method):
    """Loss-attention pooling without its term over epochs, because images are turned at random."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.pool = SmallBackbone(), LossAttentionPool2d(SMALL_CHANNELS, 2)

    def loss(self, batch: Batch) -> Tensor:
        terms = self.pool.losses(self.pool(self.features(batch.pixels)), batch.labels)
        return torch.stack(list(terms.values())).sum()

    def logits(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.pool(self.features(pixels)).logits
        return found

    def maps(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        found: Tensor = self.pool(self.features(pixels), (height, width)).maps[:, NEST]
        return found


METHODS: dict[str, tuple[Callable[[torch.Generator], Method], float]] = {
    "Grad-CAM": (lambda _: Plain(), 0.0),
    "GAIN": (lambda _: Guided(), 0.0),
    "GAIN_ext, 1 % masks": (lambda _: Guided(), 0.01),
    "GAIN_ext, 5 % masks": (lambda _: Guided(), 0.05),
    "GAIN_ext, 10 % masks": (lambda _: Guided(), 0.10),
    "CAL": (Counterfactual, 0.0),
    "loss-attention": (lambda _: LossAttention(), 0.0),
}
"""Method -> how it is made, and the fraction of all images whose mask it may use (images with a nest)."""
