"""Published pathology encoders: architecture, input, scales, precision and licence of each.

docs/encoders.md has the source of each fact. This repository holds none of the weights: they are fetched from
the hub under the user's own account, or read from a local file.
"""

from wsi_mil.encoders.published.names import PUBLISHED, catalog_table
from wsi_mil.encoders.published.record import IMAGENET_MEAN, IMAGENET_STD, Published
from wsi_mil.encoders.published.scale import refuse_other_scale

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "PUBLISHED", "Published", "catalog_table", "refuse_other_scale"]
