"""The remedies of the study `poison_remedies.py`, and bags that are drawn anew in every epoch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.contracts.bags import Bag

VIEWS = 2
DROPPED = 0.5
TOP_SHARE = 0.1


@dataclass(frozen=True)
class Remedy:
    """What is done against the poison. All fields off: nothing.

    stain: features of tiles whose stains were normalised (Macenko). views: training draws the tiles as they
    are or one of two stain views. without_pen: tiles that are no tissue once pen is removed are left out.
    without_glass: of a test slide's highest tenth of the tiles, those outside tissue are left out. dropped:
    fraction of a training bag's instances that are left out in each epoch. balanced: training slides are
    repeated until every centre has as many of each class.
    """

    stain: bool = False
    views: bool = False
    without_pen: bool = False
    without_glass: bool = False
    dropped: float = 0.0
    balanced: bool = False


REMEDIES: dict[str, Remedy] = {
    "none": Remedy(),
    "stain": Remedy(stain=True),
    "views": Remedy(views=True),
    "pen": Remedy(without_pen=True),
    "glass": Remedy(without_glass=True),
    "dropout": Remedy(dropped=DROPPED),
    "balanced": Remedy(balanced=True),
}


class RedrawnBag:
    """A bag that is another one each time it is read: one of several features of the same instances, and some
    of the instances.

    features: (N, D) each, equally likely. dropped: the fraction of instances that is left out; one remains.

    >>> bag = RedrawnBag(Bag("a", torch.arange(4.0)[:, None], 1), (), 0.5, seed=0)
    >>> bag.read_into(out := torch.empty(2, 1))
    >>> len(bag), len(set(out[:, 0].tolist()) & {0.0, 1.0, 2.0, 3.0})
    (2, 2)
    """

    instance_labels = None

    def __init__(self, bag: Bag, views: Sequence[Tensor], dropped: float, seed: int) -> None:
        self.slide_id, self.label = bag.slide_id, bag.label
        self.features = (bag.features, *views)
        self.kept = max(round((1 - dropped) * len(bag.features)), 1)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def dim(self) -> int:
        """The width of a feature vector."""
        return self.features[0].shape[1]

    def __len__(self) -> int:
        return self.kept

    def read_into(self, out: Tensor, start: int = 0) -> None:
        """Fill out (n, D) with instances; they are drawn anew. start: not used, a bag is read at once."""
        view = self.features[int(torch.randint(len(self.features), (), generator=self._generator))]
        if self.kept == len(view):
            out.copy_(view[start : start + len(out)])
        else:
            out.copy_(view[torch.randperm(len(view), generator=self._generator)[: len(out)]])


def balanced(cells: Mapping[str, tuple[str, int]]) -> list[str]:
    """Return slide ids, repeated until every cell (centre, class) occurs as often as the largest one.

    The slides of a cell are taken in turn. A cell without slides stays empty.

    >>> balanced({"a": ("x", 0), "b": ("x", 0), "c": ("x", 1)})
    ['a', 'b', 'c', 'c']
    """
    members: dict[tuple[str, int], list[str]] = {}
    for slide_id, cell in cells.items():
        members.setdefault(cell, []).append(slide_id)
    most = max(Counter(cells.values()).values())
    return [own[turn % len(own)] for own in members.values() for turn in range(most)]


def outside_tissue_at_the_top(
    scores: NDArray[np.float64], tissue: NDArray[np.float64], least: float
) -> NDArray[np.bool_]:
    """Return (N,) the tiles to leave out: those among the tenth with the highest scores whose fraction of
    tissue is below `least`. At least one tile stays.

    >>> outside_tissue_at_the_top(np.array([0.1, 0.9, 0.5]), np.array([1.0, 0.0, 0.0]), 0.5).tolist()
    [False, True, False]
    """
    count = max(round(TOP_SHARE * len(scores)), 1)
    out = np.zeros(len(scores), np.bool_)
    out[np.argsort(-scores, kind="stable")[:count]] = True
    out &= tissue < least
    return out if not out.all() else np.zeros(len(scores), np.bool_)
