"""Bags from feature stores: loaded, or left on disk and read when they are needed."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from wsi_mil.contracts.bags import Bag
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.labels import Target
from wsi_mil.errors import DataError
from wsi_mil.features import MappedFeatures

CACHED_ROWS = 256
"""Rows that are widened and scaled at a time: they stay in the processor's cache between the two."""


class BagSource(Protocol):
    """What training needs of a bag: in memory (Bag) or on disk (StoredBag)."""

    @property
    def slide_id(self) -> str: ...
    @property
    def label(self) -> Target: ...
    @property
    def instance_labels(self) -> Tensor | None: ...
    @property
    def dim(self) -> int: ...
    def __len__(self) -> int: ...
    def read_into(self, out: Tensor, start: int = 0) -> None: ...


@dataclass(frozen=True)
class StoredBag:
    """A slide whose features stay in its store. `scale`, `shift` (D,): x -> x * scale + shift on reading.

    `views`: augmented features of the same instances, of which training may draw one for an epoch.
    """

    slide_id: str
    features: MappedFeatures
    label: Target
    patient: str = ""
    instance_labels: Tensor | None = None
    shift: Tensor | None = None
    scale: Tensor | None = None
    views: tuple[MappedFeatures, ...] = ()

    def __post_init__(self) -> None:
        if len(self.features) == 0:
            raise DataError(f"slide {self.slide_id!r} has no readable tile, hence no bag")
        for view in self.views:
            if (len(view), view.dim) != (len(self.features), self.features.dim):
                raise DataError(
                    f"slide {self.slide_id!r}: a view holds {len(view)} x {view.dim} features, the plain "
                    f"ones are {len(self.features)} x {self.features.dim}: run `wsi-mil extract`"
                )

    def drawn(self, generator: torch.Generator) -> "StoredBag":
        """Return the bag with its plain features or those of one view, each as likely."""
        if not self.views:
            return self
        features = (self.features, *self.views)
        return replace(self, features=features[int(torch.randint(len(features), (), generator=generator))])

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        return self.features.dim

    def read_into(self, out: Tensor, start: int = 0) -> None:
        """Fill out (n, D) float32 with instances from `start` on."""
        done = 0
        for block in self.features.blocks(start, start + len(out)):
            for values in torch.from_numpy(block).split(CACHED_ROWS):
                part = out[done : done + len(values)]
                part.copy_(values)
                if self.shift is not None and self.scale is not None:
                    torch.addcmul(self.shift, part, self.scale, out=part)
                done += len(values)


def read_bag(source: BagSource) -> Bag:
    """Return the whole bag in memory, float32."""
    if isinstance(source, Bag):
        return source
    features = torch.empty(len(source), source.dim)
    source.read_into(features)
    return Bag(source.slide_id, features, source.label, "", source.instance_labels)


def load_bag(table: FeatureTable, label: Target, patient: str = "") -> Bag:
    """Return the bag of a slide's readable tiles, in tile order. Raises DataError if there is none."""
    features = torch.from_numpy(table.features[table.readable]).float()
    if len(features) == 0:
        raise DataError(f"slide {table.slide_id!r} has no readable tile, hence no bag")
    return Bag(table.slide_id, features, label, patient)
