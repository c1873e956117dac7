"""What every aggregator promises."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ModelError


class Aggregator(nn.Module, ABC):
    """A bag classifier over packed bags. With `n_outputs` 1 the head is a sigmoid (label 1 is positive), else one
    output per class, the first being the normal one.

    `permutes_with_instances`: reordering the instances of a bag reorders their scores and changes nothing else.
    `binary_outputs`: how many logits the method has for two classes: 1 (sigmoid) or 2 (softmax, as published).
    `generator`: where a method draws random numbers in training, it draws them from here, on the CPU, so that the
    numbers are the same on every device. Training sets it; in evaluation nothing is random.
    """

    permutes_with_instances: ClassVar[bool] = True
    binary_outputs: ClassVar[int] = 1

    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__()
        if in_features < 1 or n_outputs < self.binary_outputs:
            raise ModelError(
                f"{type(self).__name__} needs in_features >= 1 and n_outputs >= {self.binary_outputs}, got "
                f"{in_features}, {n_outputs}"
            )
        self.in_features = in_features
        self.n_outputs = n_outputs
        self.generator: torch.Generator | None = None

    @abstractmethod
    def forward(self, bags: PackedBags) -> AggregatorOutput:
        """Return logits per bag and a score per instance."""

    @abstractmethod
    def loss(self, output: AggregatorOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return the named terms of the loss, already weighted; the training loop adds them up. Each is a mean over
        bags; one of them is called "bag" and compares bag logits with labels."""

    def probabilities(self, bag_logits: Tensor) -> Tensor:
        """Return (B, max(C, 2)) class probabilities of (B, C) bag logits."""
        if self.n_outputs == 1:
            positive = bag_logits.sigmoid()
            return torch.cat([1 - positive, positive], 1)
        return bag_logits.softmax(1)

    def start_epoch(self, epoch: int) -> None:
        """Be told that epoch `epoch` (from 0) of the training begins."""

    def training_state(self) -> dict[str, Tensor]:
        """Return what the method remembers between epochs besides its weights: an exact resume needs it."""
        return {}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `training_state` returned."""

    def drop(self, values: Tensor, rate: float) -> Tensor:
        """Return `values` after dropout: in training, entries are zeroed at `rate` by the handed-in generator."""
        if not self.training or rate == 0:
            return values
        kept = torch.rand(values.shape, generator=self.generator).to(values.device) >= rate
        return values * kept / (1 - rate)


def classification_loss(bag_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of labels (B,) int64: binary for one logit, softmax for several."""
    if bag_logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(bag_logits[:, 0], labels.to(bag_logits.dtype))
    return F.cross_entropy(bag_logits, labels)


def one_vs_rest_loss(bag_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of each class against the rest; one logit: plain binary."""
    return F.binary_cross_entropy_with_logits(bag_logits, multi_hot(labels, bag_logits))


def multi_hot(labels: Tensor, bag_logits: Tensor) -> Tensor:
    """Return labels (B,) as 0/1 targets of the shape and type of bag_logits (B, C)."""
    if bag_logits.shape[1] == 1:
        return labels.to(bag_logits.dtype)[:, None]
    return F.one_hot(labels, bag_logits.shape[1]).to(bag_logits.dtype)


def positive_scores(instance_logits: Tensor) -> Tensor:
    """Return (ΣN,) how positive an instance is: its logit, or with several classes (the first being the normal one)
    the largest logit of the others."""
    return instance_logits[:, 0] if instance_logits.shape[1] == 1 else instance_logits[:, 1:].amax(1)


def positive_attention(weights: Tensor) -> Tensor:
    """Return (ΣN,) one attention of weights (ΣN, K): that of the only branch, or the mean over the branches of the
    classes after the first (normal) one; it sums to 1 in a bag as they do."""
    return weights[:, 0] if weights.shape[1] == 1 else weights[:, 1:].mean(1)
