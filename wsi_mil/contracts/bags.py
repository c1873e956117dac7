"""Bags of instances, packed into one matrix with offsets. Nothing is padded, so padding cannot change a
result."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wsi_mil.contracts.labels import Target
from wsi_mil.contracts.record import Record, equal_values, require, require_name
from wsi_mil.errors import DataError

UNKNOWN = -1


@equal_values.register
def _tensors(one: Tensor, other: object) -> bool:
    """Compare type, shape and values, wherever the tensors are."""
    if not isinstance(other, Tensor) or one.dtype != other.dtype or one.shape != other.shape:
        return False
    a, b = one.detach().cpu(), other.detach().cpu()
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


@dataclass(frozen=True, eq=False)
class Bag(Record):
    """The instances of one slide, with its label.

    features (N, D): floating-point numbers, N at least 1.
    label: class index, number, or (time, event).
    instance_labels (N,) int64: 1 tumour, 0 not tumour, -1 unknown; None where no instance was labelled.
    """

    slide_id: str
    features: Tensor
    label: Target
    patient: str = ""
    instance_labels: Tensor | None = None

    def __post_init__(self) -> None:
        where = f"bag {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id")
        x = self.features
        valid = x.ndim == 2 and len(x) > 0 and x.is_floating_point()
        require(valid, where, "features", "floating-point (N, D) with at least one instance", x)
        numbers = self.label if isinstance(self.label, tuple) else (self.label,)
        valid = len(numbers) in (1, 2) and all(map(math.isfinite, numbers))
        require(valid, where, "label", "a class index, a finite number, or (time, event)", self.label)
        _check_instance_labels(self.instance_labels, len(x), where)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        """Number of features of an instance."""
        return self.features.shape[1]

    def read_into(self, out: Tensor, start: int = 0) -> None:
        """Copy instances into out (n, D): the n instances from number `start` on."""
        out.copy_(self.features[start : start + len(out)])


def _check_instance_labels(labels: Tensor | None, instances: int, where: str) -> None:
    valid = labels is None or (labels.shape == (instances,) and labels.dtype == torch.int64)
    require(valid, where, "instance_labels", f"({instances},) int64, one per instance", labels)


@dataclass(frozen=True, eq=False)
class PackedBags(Record):
    """B bags in one matrix: bag b is rows offsets[b] to offsets[b + 1].

    features (ΣN, D): floating-point numbers.
    offsets (B + 1,) int64 on the CPU: start at 0, increase strictly, end at ΣN.
    labels (B,) int64; for regression (B,) float; for survival (B, 2) time and event.
    instance_labels (ΣN,) int64: -1 for unknown; None where no bag has any.

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
        where = f"{len(self.slide_ids)} packed bags"
        x, offsets = self.features, self.offsets
        require(x.ndim == 2 and x.is_floating_point(), where, "features", "floating-point (N, D)", x)
        valid = offsets.ndim == 1 and len(offsets) > 1 and offsets.dtype == torch.int64
        require(valid, where, "offsets", "(B + 1,) int64 for at least one bag", offsets)
        rising = int(offsets[0]) == 0 and bool((offsets.diff() > 0).all()) and int(offsets[-1]) == len(x)
        expected = f"strictly increasing from 0 to the number of instances, {len(x)}"
        require(rising, where, "offsets", expected, offsets[:8].tolist())
        valid = self.labels.ndim in (1, 2) and len(self.labels) == len(self)
        require(valid, where, "labels", f"one per bag, {len(self)}", self.labels)
        valid = len(self.slide_ids) == len(self)
        require(valid, where, "slide_ids", f"one per bag, {len(self)}", self.slide_ids)
        _check_instance_labels(self.instance_labels, len(x), where)

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
        """Return the bags on `device`. Offsets stay on the CPU, where they are read as numbers."""
        if self.features.device == self.labels.device == torch.device(device):
            return self
        labels = None if self.instance_labels is None else self.instance_labels.to(device)
        return PackedBags(
            self.features.to(device), self.offsets, self.labels.to(device), self.slide_ids, labels
        )

    @classmethod
    def pack(cls, bags: list[Bag]) -> "PackedBags":
        """Return `bags` packed in their order. Raises DataError if there is none."""
        if not bags:
            raise DataError("no bag to pack: give at least one")
        return cls(
            torch.cat([bag.features for bag in bags]) if len(bags) > 1 else bags[0].features,
            torch.tensor([0] + [len(bag) for bag in bags]).cumsum(0),
            torch.tensor([bag.label for bag in bags]),
            tuple(bag.slide_id for bag in bags),
            pack_instance_labels([(len(bag), bag.instance_labels) for bag in bags]),
        )


def pack_instance_labels(parts: list[tuple[int, Tensor | None]]) -> Tensor | None:
    """Return the instance labels (ΣN,) of bags, given as (number of instances, labels or None).

    Bags without labels get -1 for each instance. Returns None if no bag has labels.

    >>> pack_instance_labels([(2, None), (1, torch.tensor([1]))]).tolist()
    [-1, -1, 1]
    """
    if all(labels is None for _, labels in parts):
        return None
    return torch.cat([torch.full((n,), UNKNOWN) if labels is None else labels.long() for n, labels in parts])
