"""From a feature store to a bag."""

from wsi_mil.contracts.bags import Bag
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.errors import DataError


def load_bag(table: FeatureTable, label: int, patient: str = "") -> Bag:
    """Return the bag of a slide's readable tiles, in tile order. Raises DataError if there is none."""
    import torch

    features = torch.from_numpy(table.features[table.readable]).float()
    if len(features) == 0:
        raise DataError(f"slide {table.slide_id!r} has no readable tile, hence no bag")
    return Bag(table.slide_id, features, label, patient)
