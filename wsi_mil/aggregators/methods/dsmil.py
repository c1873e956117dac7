"""DSMIL: attention by similarity to the bag's critical instance. Li, Li and Eliceiri, CVPR 2021.

c_i = W_0 x_i,  m = argmax_i c_i (per class),  q(x) = tanh(W_2 ReLU(W_1 x))
a_i = softmax_i( q(x_i) . q(x_m) / sqrt(Q) ),  B = sum_i a_i v(x_i)
bag logits = convolution over (class, entry) of B
L = (BCE(bag logits) + BCE(max_i c_i)) / 2, each a mean over classes
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from wsi_mil.aggregators.attention import AttentionAggregator
from wsi_mil.bags.segments import Lengths, segment_argmax, segment_softmax, segment_weighted_sum, split
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TaskLoss


class DSMIL(AttentionAggregator):
    """One stream classifies instances, the other pools with one attention for each class.

    `value`: 'identity' pools x itself, 'learned' pools ReLU(W x). Several classes: each against the rest.
    The second instance score is that of the first stream, the instance classifier: c_i; of several positive
    classes the largest.
    The gradient flows through the query of the critical instance, not through the choice of that instance.

    Departures from the paper: the features are those of `encoder`, where the paper trains its own (SimCLR,
    one or two magnifications). The training is that of `train`: published are Adam at 1e-4, betas .5 and .9,
    weight decay 1e-3, a cosine schedule to 5e-6, 50 epochs, one bag a step.

    >>> DSMIL(in_features=8).bag_classifier
    Conv1d(1, 1, kernel_size=(8,), stride=(1,))
    """

    class_loss = "one_vs_rest"
    second_kind = "logit"

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 1,
        query: int = 128,
        value: Literal["identity", "learned"] = "identity",
    ) -> None:
        super().__init__(in_features, n_outputs)
        if value not in ("identity", "learned"):
            raise ConfigError(f"dsmil: value must be 'identity' or 'learned', got {value!r}")
        self.instance_classifier = nn.Linear(in_features, n_outputs)
        self.query = nn.Sequential(
            nn.Linear(in_features, query), nn.ReLU(), nn.Linear(query, query), nn.Tanh()
        )
        self.value = (
            nn.Sequential(nn.Linear(in_features, in_features), nn.ReLU()) if value == "learned" else None
        )
        self.bag_classifier = nn.Conv1d(n_outputs, n_outputs, in_features)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        x, lengths = bags.features, bags.lengths
        instance_logits = self.instance_classifier(x)  # (ΣN, D) -> (ΣN, C)
        critical = segment_argmax(instance_logits, lengths)  # -> (B, C)
        queries = self.query(x)  # -> (ΣN, Q)
        similar = [q @ queries[rows].T for q, rows in zip(split(queries, lengths), critical, strict=True)]
        raw = torch.cat(similar)  # -> (ΣN, C)
        weights = segment_softmax(raw / math.sqrt(queries.shape[1]), lengths)
        values = x if self.value is None else self.value(x)
        extras = {
            "h": values,
            "weights": weights,
            "attention_raw": raw,
            "instance_logits": instance_logits,
            "critical": critical,
            "queries": queries,
        }
        logits = self.pool(values, weights, lengths)
        return AggregatorOutput(
            bags,
            logits,
            self.positive_attention(weights),
            "attention",
            extras,
            second_scores=self.positive_scores(instance_logits),
            second_kind=self.second_kind,
        )

    def pool(self, h: Tensor, weights: Tensor, lengths: Lengths) -> Tensor:
        logits: Tensor = self.bag_classifier(segment_weighted_sum(weights, h, lengths))  # -> (B, C, 1)
        return logits[:, :, 0]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        return stream_losses(output, partial(task_loss, targets=targets))


def stream_losses(output: AggregatorOutput, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Return half the `loss` of logits (B, C) for each of the two streams."""
    largest = output.extras["instance_logits"].gather(0, output.extras["critical"])
    return {
        "bag": 0.5 * loss(output.bag_logits),
        "max": 0.5 * loss(largest),
    }


AGGREGATOR = DSMIL
