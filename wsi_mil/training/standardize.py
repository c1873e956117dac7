"""Mean and deviation of the training instances, kept with the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wsi_mil.contracts.bags import Bag


@dataclass(frozen=True)
class Standardizer:
    """x -> (x - mean) / std, per feature."""

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, bags: Sequence[Bag]) -> "Standardizer":
        """Return the statistics of all instances of `bags`, summed in float64; constant features keep their scale.

        >>> Standardizer.fit([Bag("a", torch.tensor([[0.0, 5.0], [2.0, 5.0]]), 0)]).std
        tensor([1., 1.])
        """
        count = sum(len(bag.features) for bag in bags)
        total = sum((bag.features.double().sum(0) for bag in bags), torch.zeros(bags[0].features.shape[1]).double())
        mean = total / count
        squares = sum(((bag.features.double() - mean).square().sum(0) for bag in bags), torch.zeros_like(mean))
        std = (squares / count).sqrt()
        return cls(mean.float(), torch.where(std > 1e-6, std, torch.ones_like(std)).float())

    @classmethod
    def identity(cls, dim: int) -> "Standardizer":
        return cls(torch.zeros(dim), torch.ones(dim))

    def __call__(self, bag: Bag) -> Bag:
        return replace(bag, features=(bag.features - self.mean) / self.std)
