"""mi-Net: classify every instance, the bag is as positive as its most positive instance.

Wang, Yan, Tang, Bai and Liu, Revisiting multiple instance neural networks, Pattern Recognition 2018.

    s_i = f(x_i),  S_b = max_{i in b} s_i,  L = BCE(S_b, Y_b)
"""

from torch import Tensor, nn

from wsi_mil.aggregators.base import Aggregator, one_vs_rest_loss, positive_scores
from wsi_mil.bags.segments import segment_max
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput


class MiNet(Aggregator):
    """Instance classifier of fully connected layers `hidden`, then max over raw logits. Multi-class: one against rest.

    >>> model = MiNet(in_features=8, n_outputs=1, hidden=(4,))
    >>> [tuple(p.shape) for p in model.parameters()]
    [(4, 8), (4,), (1, 4), (1,)]
    """

    def __init__(self, in_features: int, n_outputs: int = 1, hidden: tuple[int, ...] = (256, 128, 64)) -> None:
        super().__init__(in_features, n_outputs)
        layers: list[nn.Module] = []
        width = in_features
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.classifier = nn.Sequential(*layers, nn.Linear(width, n_outputs))

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        logits = self.classifier(bags.features)  # (ΣN, D) -> (ΣN, C)
        return AggregatorOutput(
            segment_max(logits, bags),
            positive_scores(logits),
            "logit",
            {"instance_logits": logits},  # (ΣN, C) -> (B, C)
        )

    def loss(self, output: AggregatorOutput, labels: Tensor) -> dict[str, Tensor]:
        return {"bag": one_vs_rest_loss(output.bag_logits, labels)}
