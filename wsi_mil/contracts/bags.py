"""Bags of instances, packed: one matrix and offsets; nothing is padded, so nothing can leak."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wsi_mil.errors import DataError


@dataclass(frozen=True)
class Bag:
    """One slide: features (N, D) float32, its label (class index), its ids."""

    slide_id: str
    features: Tensor
    label: int
    patient: str = ""

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) == 0:
            raise DataError(f"bag {self.slide_id!r} must hold at least one instance, got {tuple(self.features.shape)}")


@dataclass(frozen=True)
class PackedBags:
    """B bags in one matrix: bag b is rows offsets[b] to offsets[b + 1].

    features (ΣN, D); offsets (B + 1,) int64 on the CPU, from 0, strictly increasing; labels (B,) int64.

    >>> packed = PackedBags.pack([Bag("a", torch.zeros(2, 3), 0), Bag("b", torch.ones(4, 3), 1)])
    >>> packed.offsets.tolist(), packed.labels.tolist()
    ([0, 2, 6], [0, 1])
    """

    features: Tensor
    offsets: Tensor
    labels: Tensor
    slide_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        offsets = self.offsets
        if offsets.ndim != 1 or len(offsets) < 2 or int(offsets[0]) != 0 or bool((offsets.diff() <= 0).any()):
            raise DataError(f"offsets must start at 0 and increase strictly, got {offsets.tolist()[:8]}")
        if int(offsets[-1]) != len(self.features):
            raise DataError(f"offsets end at {int(offsets[-1])} but there are {len(self.features)} instances")
        if len(self.labels) != len(self) or len(self.slide_ids) != len(self):
            raise DataError(f"{len(self)} bags, {len(self.labels)} labels, {len(self.slide_ids)} slide ids")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> list[int]:
        """Number of instances of each bag."""
        return [int(n) for n in self.offsets.diff()]

    def to(self, device: torch.device | str) -> "PackedBags":
        """Return the bags on `device`; offsets stay on the CPU, where they are read as numbers."""
        return PackedBags(self.features.to(device), self.offsets, self.labels.to(device), self.slide_ids)

    @classmethod
    def pack(cls, bags: list[Bag]) -> "PackedBags":
        """Concatenate `bags` in their order."""
        if not bags:
            raise DataError("no bag to pack")
        lengths = torch.tensor([0] + [len(bag.features) for bag in bags])
        return cls(
            torch.cat([bag.features for bag in bags]),
            lengths.cumsum(0),
            torch.tensor([bag.label for bag in bags]),
            tuple(bag.slide_id for bag in bags),
        )
