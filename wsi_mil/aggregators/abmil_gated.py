"""Gated attention pooling. Ilse, Tomczak and Welling, Attention-based deep multiple instance learning, ICML 2018.

h_i = ReLU(W x_i),  a = softmax_i( w . (tanh(V h_i) * sigmoid(U h_i)) ),  p = sigmoid( c . sum_i a_i h_i )
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.bags.segments import segment_softmax, segment_weighted_sum
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput

CLAMP = 1e-5


class GatedABMIL(Aggregator):
    """One logit: sigmoid head, Bernoulli loss with the probability clamped to [1e-5, 1 - 1e-5] as published (outside
    the clamp a bag gives no gradient). C logits: softmax head and cross-entropy.

    Instance scores are the attention weights: they sum to 1 in a bag and are no probabilities.

    >>> model = GatedABMIL(in_features=8, n_outputs=1, hidden=6, attention=4)
    >>> model.attention_w
    Linear(in_features=4, out_features=1, bias=True)
    """

    def __init__(self, in_features: int, n_outputs: int = 1, hidden: int = 256, attention: int = 128) -> None:
        super().__init__(in_features, n_outputs)
        self.embed = nn.Linear(in_features, hidden)
        self.attention_V = nn.Linear(hidden, attention)
        self.attention_U = nn.Linear(hidden, attention)
        self.attention_w = nn.Linear(attention, 1)
        self.classifier = nn.Linear(hidden, n_outputs)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        h = F.relu(self.embed(bags.features))  # (ΣN, D) -> (ΣN, hidden)
        gated = torch.tanh(self.attention_V(h)) * torch.sigmoid(self.attention_U(h))  # -> (ΣN, attention)
        raw = self.attention_w(gated)[:, 0]  # -> (ΣN,)
        weights = segment_softmax(raw, bags)
        embedding = segment_weighted_sum(weights, h, bags)  # -> (B, hidden)
        extras = {"attention_raw": raw, "embedding": embedding}
        return AggregatorOutput(self.classifier(embedding), weights, "attention", extras)

    def loss(self, output: AggregatorOutput, labels: Tensor) -> dict[str, Tensor]:
        logits = output.bag_logits
        if self.n_outputs > 1:
            return {"bag": F.cross_entropy(logits, labels)}
        positive = logits[:, 0].sigmoid().clamp(CLAMP, 1 - CLAMP)
        targets = labels.to(positive.dtype)
        return {"bag": -(targets * positive.log() + (1 - targets) * (1 - positive).log()).mean()}
