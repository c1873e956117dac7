"""The base of attention methods: the network that scores instances, and pooling with given weights."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.bags.segments import Lengths

CPU_ROWS = 2048
"""Rows that go through the scoring network together on a CPU: so many intermediate values fit in the cache
(docs/benchmarks.md)."""


class AttentionAggregator(Aggregator):
    """An aggregator whose bag logits are a function of instance vectors and weights.

    `forward` returns both in extras: "h" (ΣN, H) and "weights" (ΣN, K); each column sums to 1 in a bag. A
    wrapper that needs the logits under other weights calls `pool` again (counterfactual and guided training).
    """

    @abstractmethod
    def pool(self, h: Tensor, weights: Tensor, lengths: Lengths) -> Tensor:
        """Return bag logits (B, C) of instance vectors h (ΣN, H) under weights (ΣN, K)."""


class AttentionNet(nn.Module):
    """Raw attention (ΣN, branches): w . tanh(V h), or gated w . (tanh(V h) * sigmoid(U h)). Ilse et al.,
    ICML 2018."""

    def __init__(self, width: int, attention: int, branches: int = 1, gated: bool = True) -> None:
        super().__init__()
        self.V = nn.Linear(width, attention)
        self.U = nn.Linear(width, attention) if gated else None
        self.w = nn.Linear(attention, branches)

    def forward(self, h: Tensor) -> Tensor:
        if h.device.type != "cpu" or len(h) <= CPU_ROWS:
            return self.w(self.hidden(h))  # type: ignore[no-any-return]
        return torch.cat([self.w(self.hidden(rows)) for rows in h.split(CPU_ROWS)])

    def hidden(self, h: Tensor) -> Tensor:
        """Return (ΣN, attention), the units before the last linear map."""
        plain = torch.tanh(self.V(h))
        return plain if self.U is None else plain * torch.sigmoid(self.U(h))


def relu_layers(in_features: int, hidden: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Return fully connected layers with ReLU, and the width of their output (none: the identity)."""
    layers: list[nn.Module] = []
    width = in_features
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        width = size
    return nn.Sequential(*layers), width
