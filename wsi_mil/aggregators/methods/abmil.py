"""Attention pooling. Ilse, Tomczak and Welling, Attention-based deep multiple instance learning, ICML 2018.

h_i = f(x_i),  a = softmax_i( w . tanh(V h_i) ),  p = sigmoid( c . sum_i a_i h_i )
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from wsi_mil.aggregators.attention import AttentionAggregator, AttentionNet, relu_layers
from wsi_mil.bags.segments import Lengths, segment_softmax, segment_weighted_sum
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss


class ABMIL(AttentionAggregator):
    """One logit: a sigmoid head and the Bernoulli loss, with the probability clamped to [1e-5, 1 - 1e-5] as
    published; a bag outside the clamp gives no gradient. C logits: a softmax head and cross-entropy.

    Departures from the paper: `embed` is fully connected on ready features, where the paper trains a
    convolutional network for its digits and cells (500 wide; `hidden` here 256). The training is that of
    `train`; published are Adam at 5e-4, weight decay 1e-4, 20 epochs, one bag a step.

    `gated`: multiply by sigmoid(U h_i) before w, as abmil_gated does. `dropout`: of the embedding's last
    layer. Instance scores are the attention weights: they sum to 1 in a bag and are no probabilities.

    >>> ABMIL(in_features=8, n_outputs=1, hidden=(6,), attention=4).attention.w
    Linear(in_features=4, out_features=1, bias=True)
    """

    small: ClassVar[dict[str, object]] = {"hidden": (16,)}

    class_loss = "clamped"

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 1,
        hidden: Sequence[int] = (256,),
        attention: int = 128,
        gated: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.dropout = dropout
        self.embed, width = relu_layers(in_features, hidden)
        self.attention = AttentionNet(width, attention, gated=gated)
        self.classifier = nn.Linear(width, n_outputs)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        h = self.drop(self.embed(bags.features), self.dropout)  # (ΣN, D) -> (ΣN, H)
        raw = self.attention(h)  # -> (ΣN, 1)
        weights = segment_softmax(raw, bags.lengths)
        logits = self.pool(h, weights, bags.lengths)
        return AggregatorOutput(
            bags, logits, weights[:, 0], "attention", {"h": h, "weights": weights, "attention_raw": raw}
        )

    def pool(self, h: Tensor, weights: Tensor, lengths: Lengths) -> Tensor:
        return self.classifier(segment_weighted_sum(weights[:, 0], h, lengths))  # type: ignore[no-any-return]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        return {"bag": task_loss(output.bag_logits, targets)}


AGGREGATOR = ABMIL
