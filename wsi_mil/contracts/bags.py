"""Bags of instances, packed: one matrix and offsets; nothing is padded, so nothing can leak."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wsi_mil.contracts.labels import Target
from wsi_mil.errors import DataError

UNKNOWN = -1


@dataclass(frozen=True)
class Bag:
    """One slide: features (N, D) float32, its label (class index, number, or (time, event)), its ids.

    `instance_labels` (N,) int64: 1 tumour, 0 not, -1 unknown; only the few slides that were annotated for training
    have any.
    """

    slide_id: str
    features: Tensor
    label: Target
    patient: str = ""
    instance_labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) == 0:
            raise DataError(
                f"bag {self.slide_id!r} must hold at least one instance, got {tuple(self.features.shape)}"
            )
        if self.instance_labels is not None and self.instance_labels.shape != (len(self.features),):
            raise DataError(
                f"bag {self.slide_id!r} has {len(self.features)} instances and instance labels of shape "
                f"{tuple(self.instance_labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        return self.features.shape[1]

    def read_into(self, out: Tensor, start: int = 0) -> None:
        """Copy instances from `start` on into out (n, D)."""
        out.copy_(self.features[start : start + len(out)])


@dataclass(frozen=True)
class PackedBags:
    """B bags in one matrix: bag b is rows offsets[b] to offsets[b + 1].

    features (ΣN, D); offsets (B + 1,) int64 on the CPU, from 0, strictly increasing; labels (B,) int64
    (regression: (B,) float; survival: (B, 2) time and event);
    instance_labels (ΣN,) int64 with -1 for unknown, or None where no bag has any.

    >>> packed = PackedBags.pack([Bag("a", torch.zeros(2, 3), 0), Bag("b", torch.ones(4, 3), 1)])
    >>> packed.offsets.tolist(), packed.labels.tolist(), packed.lengths
    ([0, 2, 6], [0, 1], [2, 4])
    """

    features: Tensor
    offsets: Tensor
    labels: Tensor
    slide_ids: tuple[str, ...]
    instance_labels: Tensor | None = None

    def __post_init__(self) -> None:
        offsets = self.offsets
        if offsets.ndim != 1 or len(offsets) < 2 or int(offsets[0]) != 0 or bool((offsets.diff() <= 0).any()):
            raise DataError(f"offsets must start at 0 and increase strictly, got {offsets.tolist()[:8]}")
        if int(offsets[-1]) != len(self.features):
            raise DataError(f"offsets end at {int(offsets[-1])} but there are {len(self.features)} instances")
        if len(self.labels) != len(self) or len(self.slide_ids) != len(self):
            raise DataError(f"{len(self)} bags, {len(self.labels)} labels, {len(self.slide_ids)} slide ids")
        if self.instance_labels is not None and self.instance_labels.shape != (len(self.features),):
            raise DataError(
                f"{len(self.features)} instances, instance labels of shape {tuple(self.instance_labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> list[int]:
        """Number of instances of each bag."""
        return self.offsets.diff().tolist()

    def with_features(self, features: Tensor) -> "PackedBags":
        """Return the same bags with other features of the same instances."""
        return PackedBags(features, self.offsets, self.labels, self.slide_ids, self.instance_labels)

    def to(self, device: torch.device | str) -> "PackedBags":
        """Return the bags on `device`; offsets stay on the CPU, where they are read as numbers."""
        if self.features.device == self.labels.device == torch.device(device):
            return self
        marks = None if self.instance_labels is None else self.instance_labels.to(device)
        return PackedBags(
            self.features.to(device), self.offsets, self.labels.to(device), self.slide_ids, marks
        )

    @classmethod
    def pack(cls, bags: list[Bag]) -> "PackedBags":
        """Concatenate `bags` in their order."""
        if not bags:
            raise DataError("no bag to pack")
        return cls(
            torch.cat([bag.features for bag in bags]) if len(bags) > 1 else bags[0].features,
            torch.tensor([0] + [len(bag) for bag in bags]).cumsum(0),
            torch.tensor([bag.label for bag in bags]),
            tuple(bag.slide_id for bag in bags),
            pack_instance_labels([(len(bag), bag.instance_labels) for bag in bags]),
        )


def pack_instance_labels(parts: list[tuple[int, Tensor | None]]) -> Tensor | None:
    """Return the labels of bags with the lengths given, -1 for a bag without; None if no bag has any."""
    if all(labels is None for _, labels in parts):
        return None
    return torch.cat([torch.full((n,), UNKNOWN) if labels is None else labels.long() for n, labels in parts])
