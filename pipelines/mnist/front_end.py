"""Bags of small images: a convolutional network in front of an aggregator; both are trained together."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss


class LeNet(nn.Module):
    """conv5-20, ReLU, max-pool 2, conv5-50, ReLU, max-pool 2: grey images (N, 784) -> features (N, 800).

    The network of the MNIST-bags experiments of Ilse et al. (2018) and Shi et al. (2020).
    """

    in_features, out_features = 784, 800

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU

    def forward(self, images: Tensor) -> Tensor:
        images = images.view(-1, 1, 28, 28).to(memory_format=torch.channels_last)
        # pooling and ReLU commute; pooling first leaves a quarter of the values for ReLU
        maps = torch.relu(F.max_pool2d(self.conv1(images), 2))
        return torch.relu(F.max_pool2d(self.conv2(maps), 2)).flatten(1)


class ImageFrontEnd(Aggregator):
    """An aggregator on pixels: `front` computes the features of each image, `aggregator` their bag's output.

    >>> from wsi_mil.aggregators.methods.mean_pool import MeanPool
    >>> ImageFrontEnd(LeNet(), MeanPool(LeNet.out_features)).n_outputs
    1
    """

    def __init__(self, front: LeNet, aggregator: Aggregator) -> None:
        super().__init__(front.in_features, aggregator.n_outputs)
        self.front, self.aggregator = front, aggregator
        self.class_loss = aggregator.class_loss

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        self.aggregator.generator = self.generator
        return self.aggregator(bags.with_features(self.front(bags.features)))  # type: ignore[no-any-return]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        return self.aggregator.loss(output, targets, task_loss)

    def start_epoch(self, epoch: int) -> None:
        self.aggregator.start_epoch(epoch)

    def training_state(self) -> dict[str, Tensor]:
        return self.aggregator.training_state()

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        self.aggregator.load_training_state(state)
