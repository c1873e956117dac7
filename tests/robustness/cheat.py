"""An aggregator of a user's own, built to cheat: the mean of all instances decides."""

from torch import Tensor, nn

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.bags.segments import segment_mean
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss


class MeanOfAll(Aggregator):
    def __init__(self, in_features: int, n_outputs: int = 1, hidden: int = 32) -> None:
        super().__init__(in_features, n_outputs)
        self.embed = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, n_outputs)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        h = self.embed(bags.features)  # (ΣN, D) -> (ΣN, H)
        return AggregatorOutput(bags, self.head(segment_mean(h, bags.lengths)), self.head(h)[:, 0], "logit")

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        return {"bag": task_loss(output.bag_logits, targets)}


class NoAggregator:
    def __init__(self, in_features: int, n_outputs: int = 1) -> None:
        self.sizes = (in_features, n_outputs)
