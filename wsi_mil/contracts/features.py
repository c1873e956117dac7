"""Features of one slide's tiles, with the coordinates that they belong to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import DataError


@dataclass(frozen=True)
class FeatureTable:
    """Row i describes tile i of the tile table with digest `tiles_digest`.

    features (N, D) float16, finite; coords (N, 2) int32 level-0 px; readable (N,) bool: False where the slide's
    file gave no pixels (such rows are zero and never enter a bag). `digest`: over features and readable.
    """

    slide_id: str
    encoder: str
    encoder_digest: str
    tiles_digest: str
    mpp: float
    features: NDArray[np.float16]
    coords: NDArray[np.int32]
    readable: NDArray[np.bool_]
    digest: str

    def __post_init__(self) -> None:
        rows = len(self.coords)
        if self.features.ndim != 2 or len(self.features) != rows or self.readable.shape != (rows,):
            raise DataError(
                f"features of slide {self.slide_id!r}: {self.features.shape} features and {self.readable.shape} "
                f"flags for {rows} tiles; extract them again"
            )
        if not np.isfinite(self.features).all():
            raise DataError(f"features of slide {self.slide_id!r} by {self.encoder!r} hold NaN or infinity")
