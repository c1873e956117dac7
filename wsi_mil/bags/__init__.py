"""Bags: labels, patient-grouped splits, packing, and the operations over segments."""

from typing import TYPE_CHECKING

from wsi_mil.bags.labels import LabelTable, read_labels
from wsi_mil.bags.splits import Fold, Split, SplitSpec, make_split
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.lazy import lazy_door

if TYPE_CHECKING:
    from wsi_mil.bags.dataset import BagSource, StoredBag, load_bag, read_bag

__getattr__ = lazy_door(
    __name__, dict.fromkeys(("BagSource", "StoredBag", "load_bag", "read_bag"), "dataset")
)
__all__ = [
    "BagSource",
    "Fold",
    "LabelTable",
    "SlideLabel",
    "Split",
    "SplitSpec",
    "StoredBag",
    "load_bag",
    "make_split",
    "read_bag",
    "read_labels",
]
