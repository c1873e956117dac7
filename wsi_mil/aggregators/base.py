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
    output per class.

    `permutes_with_instances`: reordering the instances of a bag reorders their scores and changes nothing else.
    `generator`: where a method draws random numbers in training, it draws them from here, on the CPU, so that the
    numbers are the same on every device. Training sets it; in evaluation nothing is random.
    """

    permutes_with_instances: ClassVar[bool] = True

    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__()
        if in_features < 1 or n_outputs < 1:
            raise ModelError(f"an aggregator needs in_features >= 1 and n_outputs >= 1, got {in_features}, {n_outputs}")
        self.in_features = in_features
        self.n_outputs = n_outputs
        self.generator: torch.Generator | None = None

    @abstractmethod
    def forward(self, bags: PackedBags) -> AggregatorOutput:
        """Return logits per bag and a score per instance."""

    @abstractmethod
    def loss(self, output: AggregatorOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return the named terms of the loss, already weighted; the training loop adds them up."""

    def probabilities(self, bag_logits: Tensor) -> Tensor:
        """Return (B, max(C, 2)) class probabilities of (B, C) bag logits."""
        if self.n_outputs == 1:
            positive = bag_logits.sigmoid()
            return torch.cat([1 - positive, positive], 1)
        return bag_logits.softmax(1)


def bag_loss(bag_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy (one logit a bag) of labels (B,) int64."""
    return F.binary_cross_entropy_with_logits(bag_logits[:, 0], labels.to(bag_logits.dtype))


def one_vs_rest_loss(bag_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of each class against the rest; one logit: plain binary."""
    if bag_logits.shape[1] == 1:
        return bag_loss(bag_logits, labels)
    targets = F.one_hot(labels, bag_logits.shape[1]).to(bag_logits.dtype)
    return F.binary_cross_entropy_with_logits(bag_logits, targets)


def positive_scores(instance_logits: Tensor) -> Tensor:
    """Return (ΣN,) how positive an instance is: its logit, or with several classes (the first being the normal one)
    the largest logit of the others."""
    return instance_logits[:, 0] if instance_logits.shape[1] == 1 else instance_logits[:, 1:].amax(1)
