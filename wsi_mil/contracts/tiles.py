"""Tiles: what was asked, what is read, and the table of those that were kept."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer, model_validator

from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import DataError
from wsi_mil.io.files import digest_bytes, digest_json


class TileSpec(Spec):
    """Square tiles of `size_px` pixels at `mpp` µm/px, every `stride_px` (default: the size), where at least
    `min_tissue_fraction` of the tile is tissue. Scale is always µm/px; objective power is never used."""

    mpp: float = Field(default=0.5, gt=0, description="µm per tile pixel")
    size_px: int = Field(default=256, ge=1, description="side of a tile, in pixels at `mpp`")
    stride_px: int | None = Field(default=None, ge=1, description="step of the lattice, in pixels at `mpp`")
    min_tissue_fraction: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _fill_stride(self) -> "TileSpec":
        if self.stride_px is None:
            object.__setattr__(self, "stride_px", self.size_px)
        return self

    @field_serializer("stride_px")
    def _default_stays_default(self, stride_px: int | None) -> int | None:
        # a saved configuration whose size is changed later must not keep the old size as its stride
        return None if stride_px == self.size_px else stride_px

    def explicit(self) -> dict[str, Any]:
        """Return all values with the stride written out: what digests and stores hold."""
        return self.model_dump(mode="json") | {"stride_px": self.step_px}

    def digest(self) -> str:
        return digest_json(self.explicit())

    @property
    def step_px(self) -> int:
        return self.stride_px if self.stride_px is not None else self.size_px

    @property
    def size_um(self) -> float:
        return self.size_px * self.mpp


@dataclass(frozen=True)
class ReadPlan:
    """How one slide's tiles are read: `level` regions of `read_width_px` by `read_height_px`, then resampled.

    `tile_width0_px`, `tile_height0_px`: the tile in level-0 pixels (not whole numbers in general).
    """

    level: int
    downsample_x: float
    downsample_y: float
    read_width_px: int
    read_height_px: int
    tile_width0_px: float
    tile_height0_px: float


@dataclass(frozen=True)
class TileTable:
    """The kept tiles of one slide, sorted by (y, x); the row number is a tile's identity.

    coords (N, 2) int32: top-left corner, level-0 pixels, (x, y). tissue (N,) float32: fraction in [0, 1].
    """

    slide_id: str
    spec: TileSpec
    plan: ReadPlan
    coords: NDArray[np.int32]
    tissue: NDArray[np.float32]
    slide_size_px: tuple[int, int]
    mpp_xy: tuple[float, float]
    tissue_source: str = "whole"

    def __post_init__(self) -> None:
        where = f"tile table of slide {self.slide_id!r}"
        if self.coords.ndim != 2 or self.coords.shape[1] != 2 or self.coords.dtype != np.int32:
            raise DataError(
                f"{where}: coords must be (N, 2) int32, got {self.coords.shape} {self.coords.dtype}"
            )
        if self.tissue.shape != (len(self.coords),):
            raise DataError(f"{where}: {len(self.coords)} coords but tissue of shape {self.tissue.shape}")
        if len(self.coords) == 0:
            return
        x0, y0 = self.coords.T.astype(np.int64)
        order = y0 * (int(x0.max()) + 1) + x0
        if np.any(np.diff(order) <= 0):
            raise DataError(f"{where}: rows must be unique and sorted by (y, x)")
        if self.tissue.min() < 0 or self.tissue.max() > 1:
            raise DataError(f"{where}: tissue fractions must lie in [0, 1]")
        width, height = self.slide_size_px
        right, lower = x0.max() + self.plan.tile_width0_px, y0.max() + self.plan.tile_height0_px
        if min(x0.min(), y0.min()) < 0 or right > width + 1 or lower > height + 1:
            raise DataError(
                f"{where}: tiles reach ({right:.1f}, {lower:.1f}) px of a slide of {width} x {height} px"
            )

    def __len__(self) -> int:
        return len(self.coords)

    def digest(self) -> str:
        """Return 16 hexadecimal digits over spec, coordinates and slide size: the identity of every row."""
        head = digest_json(
            {
                "spec": self.spec.explicit(),
                "size": self.slide_size_px,
                "mpp": self.mpp_xy,
                "id": self.slide_id,
            }
        )
        return digest_bytes(
            head.encode(), self.coords.astype("<i4").tobytes(), self.tissue.astype("<f4").tobytes()
        )
