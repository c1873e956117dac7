"""Aggregators: from the instances of a bag to its label, one method per file, one signature."""

from typing import TYPE_CHECKING

from wsi_mil.aggregators.names import AGGREGATORS
from wsi_mil.lazy import lazy_door

if TYPE_CHECKING:
    from wsi_mil.aggregators.base import Aggregator
    from wsi_mil.aggregators.catalog import build_aggregator, outputs_for

__getattr__ = lazy_door(
    __name__, {"Aggregator": "base", "build_aggregator": "catalog", "outputs_for": "catalog"}
)
__all__ = ["AGGREGATORS", "Aggregator", "build_aggregator", "outputs_for"]
