"""The network of the Keras example of attention-based MIL (M. Jaber, 2021), and the mean of models."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from wsi_mil.aggregators.attention import AttentionAggregator
from wsi_mil.bags.segments import Lengths, segment_softmax
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss

L2 = 0.01


class ConcatenatedAttention(AttentionAggregator):
    """Gated attention without biases; the weighted instances of a bag are concatenated, not summed.

    h_i = relu(B relu(A x_i)), a = softmax_i( w . (tanh(V h_i) * sigmoid(U h_i)) ),
    logits = C [a_1 h_1, .., a_K h_K]. All bags have K instances, and their order matters. The loss adds 0.01
    times the sum of squares of V, U and w. Weights begin as in Keras (Glorot, uniform; biases 0).

    >>> sum(p.numel() for p in ConcatenatedAttention(784).parameters())
    142146
    """

    permutes_with_instances: ClassVar[bool] = False
    binary_outputs = (2,)
    tasks = ("detection",)

    def __init__(self, in_features: int, n_outputs: int = 2, instances: int = 3) -> None:
        super().__init__(in_features, n_outputs)
        self.instances = instances
        self.embed = nn.Sequential(nn.Linear(in_features, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.V, self.U = nn.Linear(64, 256, bias=False), nn.Linear(64, 256, bias=False)
        self.w = nn.Linear(256, 1, bias=False)
        self.classifier = nn.Linear(64 * instances, n_outputs)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        h = self.embed(bags.features)
        raw = self.w(torch.tanh(self.V(h)) * torch.sigmoid(self.U(h)))  # -> (ΣN, 1)
        weights = segment_softmax(raw, bags.lengths)
        logits = self.pool(h, weights, bags.lengths)
        return AggregatorOutput(
            bags, logits, weights[:, 0], "attention", {"h": h, "weights": weights, "attention_raw": raw}
        )

    def pool(self, h: Tensor, weights: Tensor, lengths: Lengths) -> Tensor:
        return self.classifier((weights * h).reshape(len(lengths), -1))  # type: ignore[no-any-return]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        squares = sum((part.weight.square().sum() for part in (self.V, self.U, self.w)), torch.zeros(()))
        return {"bag": task_loss(output.bag_logits, targets), "l2": L2 * squares}


def mean_probabilities(models: Sequence[ConcatenatedAttention], bags: Sequence[Bag]) -> Tensor:
    """Return (B, 2) the mean of the models' probabilities, as the example averages its models."""
    packed = PackedBags.pack(list(bags))
    with torch.inference_mode():
        return torch.stack([m.probabilities(m.eval()(packed).bag_logits) for m in models]).mean(0)
