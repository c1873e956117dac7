"""Features of one slide's tiles, with the coordinates that they belong to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.record import Record, above_zero, require, require_array, require_name


@dataclass(frozen=True, eq=False)
class FeatureTable(Record):
    """Row i describes tile i of the tile table with digest `tiles_digest`.

    features (N, D) float16, finite.
    coords (N, 2) int32: upper left corners (x, y) in level-0 pixels.
    readable (N,) bool: False where the slide's file gave no pixels; such rows are zero and never enter a bag.
    mpp: µm per tile pixel. digest: of features and readable.
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
        where = f"features of slide {self.slide_id!r} by encoder {self.encoder!r}"
        require_name(self.slide_id, where, "slide_id")
        require_name(self.encoder, where, "encoder")
        require(above_zero(self.mpp), where, "mpp", "positive", self.mpp)
        require_array(self.coords, where, "coords", ("N", 2), np.int32)
        rows = len(self.coords)
        require_array(self.readable, where, "readable", (rows,), np.bool_)
        require_array(self.features, where, "features", (rows, "D"), np.float16)
        finite = bool(np.isfinite(self.features).all())
        require(finite, where, "features", "finite", "NaN or infinity", advice="extract them again")
