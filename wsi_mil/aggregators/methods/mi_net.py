"""mi-Net: classify every instance; the bag has the logit of its most positive instance.

Wang, Yan, Tang, Bai and Liu, Revisiting multiple instance neural networks, Pattern Recognition 2018.

    s_i = f(x_i),  S_b = max_{i in b} s_i,  L = BCE(S_b, Y_b)
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from wsi_mil.aggregators.attention import relu_layers
from wsi_mil.aggregators.instance_maximum import InstanceMaximum
from wsi_mil.aggregators.max_pooling import MaxPooling
from wsi_mil.bags.segments import segment_argmax
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss


class MiNet(InstanceMaximum, MaxPooling):
    """An instance classifier of fully connected layers `hidden`, then the maximum of raw logits. Several
    classes: each against the rest.

    With one bag a step, one instance a step gets gradient and is memorised; the FocusMIL paper shows this
    over-fitting.

    >>> model = MiNet(in_features=8, n_outputs=1, hidden=(4,))
    >>> [tuple(p.shape) for p in model.parameters()]
    [(4, 8), (4,), (1, 4), (1,)]
    """

    small: ClassVar[dict[str, object]] = {"hidden": (16, 8)}

    class_loss = "one_vs_rest"

    def __init__(self, in_features: int, n_outputs: int = 1, hidden: Sequence[int] = (256, 128, 64)) -> None:
        super().__init__(in_features, n_outputs)
        layers, width = relu_layers(in_features, hidden)
        self.classifier = nn.Sequential(*layers, nn.Linear(width, n_outputs))

    def forward(self, bags: PackedBags, noise: Tensor | None = None) -> AggregatorOutput:
        logits = self.classifier(bags.features)  # (ΣN, D) -> (ΣN, C)
        extras = {"instance_logits": logits}
        pooled = self.pooled(logits, bags.lengths, segment_argmax(logits, bags.lengths))
        return AggregatorOutput(bags, pooled, self.positive_scores(logits), "logit", extras)

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        return {"bag": task_loss(output.bag_logits, targets)}

    def scan(self, features: Tensor, noise: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.classifier(features), {}


AGGREGATOR = MiNet
