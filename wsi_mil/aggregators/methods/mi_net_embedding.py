"""MI-Net: pool instance embeddings, classify the bag. Wang, Yan, Tang, Bai and Liu, Pattern Recognition 2018.

h^l = ReLU(W_l h^{l-1}),  e^l = pool_i h^l_i
plain:             logits = V e^L
deep_supervision:  logits_l = V_l e^l at every layer; the loss is their mean, the prediction too
residual:          r^l = r^{l-1} + e^l (layers of equal width), logits = V r^L
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.bags.segments import Lengths, segment_logmeanexp, segment_max, segment_mean
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TaskLoss

Pooling = Literal["max", "mean", "lse"]
Variant = Literal["plain", "deep_supervision", "residual"]


class MiNetEmbedding(Aggregator):
    """Three poolings ('lse': log-mean-exp of sharpness 1) and three variants.

    Instance scores are the logits that the instance has as a bag of one. `hidden`: default are the published
    sizes, 256, 128 and 64, for the residual variant three times 128.

    >>> [tuple(c.weight.shape) for c in MiNetEmbedding(8, variant="deep_supervision").classifiers]
    [(1, 256), (1, 128), (1, 64)]
    """

    small: ClassVar[dict[str, object]] = {"hidden": (16, 8)}

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 1,
        pooling: Pooling = "max",
        variant: Variant = "plain",
        hidden: Sequence[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, n_outputs)
        if pooling not in ("max", "mean", "lse") or variant not in ("plain", "deep_supervision", "residual"):
            raise ConfigError(
                "mi_net_embedding: pooling must be max, mean or lse, variant plain, deep_supervision or "
                "residual; "
                f"got {pooling!r}, {variant!r}"
            )
        sizes = tuple(hidden) if hidden else (128, 128, 128) if variant == "residual" else (256, 128, 64)
        if variant == "residual" and len(set(sizes)) > 1:
            raise ConfigError(
                f"mi_net_embedding: the residual variant adds layers of equal width, got hidden={sizes}"
            )
        self.pooling, self.variant, self.dropout = pooling, variant, dropout
        widths = [in_features, *sizes]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        heads = sizes if variant == "deep_supervision" else sizes[-1:]
        self.classifiers = nn.ModuleList(nn.Linear(size, n_outputs) for size in heads)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        h, levels = bags.features, []
        for layer in self.layers:
            h = self.drop(torch.relu(layer(h)), self.dropout)  # (ΣN, a) -> (ΣN, b)
            levels.append(h)
        pooled = [pool(level, bags.lengths, self.pooling) for level in levels]
        logits, alone = self.heads(pooled), self.heads(levels)  # lists of (B, C) and of (ΣN, C)
        extras = {f"bag_logits_{i}": value for i, value in enumerate(logits)}
        scores = self.positive_scores(torch.stack(alone).mean(0))
        return AggregatorOutput(bags, torch.stack(logits).mean(0), scores, "logit", extras)

    def heads(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the logits of every classifier from the (rows, width) vectors of every layer."""
        if self.variant == "deep_supervision":
            return [head(level) for head, level in zip(self.classifiers, levels, strict=True)]
        last = torch.stack(levels).sum(0) if self.variant == "residual" else levels[-1]
        return [self.classifiers[0](last)]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        terms = [task_loss(value, targets) for key, value in output.extras.items() if key.startswith("bag_")]
        return {"bag": torch.stack(terms).mean()}


def pool(values: Tensor, lengths: Lengths, pooling: Pooling) -> Tensor:
    """Return (B, H) the pooled values (ΣN, H) of each bag."""
    if pooling == "max":
        return segment_max(values, lengths)
    return (
        segment_mean(values, lengths)
        if pooling == "mean"
        else segment_logmeanexp(values, lengths, sharpness=1.0)
    )


AGGREGATOR = MiNetEmbedding
