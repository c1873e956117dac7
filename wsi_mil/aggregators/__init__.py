"""Aggregators: from the instances of a bag to its label, one method per file, one signature."""

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.aggregators.catalog import AGGREGATORS, build_aggregator

__all__ = ["AGGREGATORS", "Aggregator", "build_aggregator"]
