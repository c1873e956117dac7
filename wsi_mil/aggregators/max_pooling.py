"""The base of max-pooling methods. Only the instances that hold a maximum get gradient, so only they need a
graph.

The two-pass mode (training/two_pass.py) first finds these instances, in chunks and without gradient. Then it
runs the method on them alone. Bag logits and gradients are the same; the work is smaller, and memory does not
grow with the bag.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput

NOISE_ROWS = 4096
"""Noise is drawn in blocks of this many rows, so that it is the same for every division into chunks."""


class MaxPooling(Aggregator):
    """An aggregator whose bag logits and loss depend on an instance only through maxima over the bag.

    `noise_width`: number of noise values per instance in training; 0: none.
    `reaches_every_instance`: whether some term of the loss is a mean over all instances.
    """

    @property
    def reaches_every_instance(self) -> bool:
        return False

    @property
    def noise_width(self) -> int:
        return 0

    @abstractmethod
    def forward(self, bags: PackedBags, noise: Tensor | None = None) -> AggregatorOutput:
        """As of every aggregator; `noise` (ΣN, noise_width) replaces the numbers that would be drawn in
        training."""

    @abstractmethod
    def scan(self, features: Tensor, noise: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (n, K) the values of instances (n, D) whose maxima over the bag are all that matters, and
        the weighted terms of the loss that are means over the instances given (with
        `reaches_every_instance`)."""

    def draw_noise(self, rows: int) -> Tensor:
        """Return (rows, noise_width) standard normal numbers of the handed-in generator, drawn block by
        block."""
        sizes = [min(NOISE_ROWS, rows - start) for start in range(0, rows, NOISE_ROWS)]
        return torch.cat([torch.randn((size, self.noise_width), generator=self.generator) for size in sizes])
