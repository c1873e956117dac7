"""Mean and deviation of the training instances, kept with the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch
from torch import Tensor

from wsi_mil.bags.dataset import BagSource, StoredBag
from wsi_mil.contracts.bags import Bag
from wsi_mil.errors import DataError
from wsi_mil.training.loading import chunks_of

CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Standardizer:
    """x -> (x - mean) / std, per feature."""

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, bags: Sequence[BagSource]) -> "Standardizer":
        """Return the statistics of all instances of `bags`, summed in float64; constant features keep their
        scale.

        >>> Standardizer.fit([Bag("a", torch.tensor([[0.0, 5.0], [2.0, 5.0]]), 0)]).std
        tensor([1., 1.])
        """
        count = sum(len(bag) for bag in bags)
        total = torch.zeros(bags[0].dim).double()
        for bag in bags:
            for _, part in chunks_of(bag, CHUNK_ROWS):
                total += part.double().sum(0)
        mean = total / count
        squares = torch.zeros_like(mean)
        for bag in bags:
            for _, part in chunks_of(bag, CHUNK_ROWS):
                squares += (part.double() - mean).square().sum(0)
        std = (squares / count).sqrt()
        return cls(mean.float(), torch.where(std > 1e-6, std, torch.ones_like(std)).float())

    @classmethod
    def identity(cls, dim: int) -> "Standardizer":
        return cls(torch.zeros(dim), torch.ones(dim))

    @overload
    def __call__(self, bag: Bag) -> Bag: ...
    @overload
    def __call__(self, bag: StoredBag) -> StoredBag: ...
    def __call__(self, bag: Bag | StoredBag) -> Bag | StoredBag:
        """Return the bag standardised: now if it is in memory, on reading if it is on disk."""
        if isinstance(bag, Bag):
            return replace(bag, features=(bag.features - self.mean) / self.std)
        if bag.shift is not None:
            raise DataError(f"bag {bag.slide_id!r} is standardised already")
        return replace(bag, shift=-self.mean / self.std, scale=1 / self.std)
