"""Bags: labels, patient-grouped splits, packing, and the operations over segments."""

from wsi_mil.bags.dataset import load_bag
from wsi_mil.bags.labels import LabelTable, SlideLabel, read_labels
from wsi_mil.bags.splits import Fold, Split, SplitSpec, make_split

__all__ = ["Fold", "LabelTable", "SlideLabel", "Split", "SplitSpec", "load_bag", "make_split", "read_labels"]
