"""Elementwise maximum of instance embeddings, then a linear classifier.

h_i = ReLU(W x_i),  bag logits = V max_i(h_i) + c
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from wsi_mil.aggregators.attention import relu_layers
from wsi_mil.aggregators.max_pooling import MaxPooling
from wsi_mil.bags.segments import segment_max
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss


class MaxPool(MaxPooling):
    """Instance scores are the classifier's logits of the instance alone.

    >>> MaxPool(in_features=8, hidden=(4,)).classifier
    Linear(in_features=4, out_features=1, bias=True)
    """

    small: ClassVar[dict[str, object]] = {"hidden": (16,)}

    def __init__(self, in_features: int, n_outputs: int = 1, hidden: Sequence[int] = (256,)) -> None:
        super().__init__(in_features, n_outputs)
        self.embed, width = relu_layers(in_features, hidden)
        self.classifier = nn.Linear(width, n_outputs)

    def forward(self, bags: PackedBags, noise: Tensor | None = None) -> AggregatorOutput:
        h = self.embed(bags.features)  # (ΣN, D) -> (ΣN, H)
        logits = self.classifier(segment_max(h, bags.lengths))  # -> (B, C)
        alone = self.classifier(h)
        return AggregatorOutput(
            bags, logits, self.positive_scores(alone), "logit", {"instance_logits": alone}
        )

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        return {"bag": task_loss(output.bag_logits, targets)}

    def scan(self, features: Tensor, noise: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        # before the last ReLU: the same instance holds the maximum; where all are negative, none has a
        # gradient
        return self.embed[:-1](features), {}


AGGREGATOR = MaxPool
