"""Tiles: their settings, how they are read, and the table of those that were kept."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer, model_validator

from wsi_mil.contracts.record import Record, above_zero, require, require_array, require_name
from wsi_mil.contracts.spec import Spec
from wsi_mil.io.files import digest_bytes, digest_json


class TileSpec(Spec):
    """Settings of the tiles: squares of `size_px` pixels at `mpp` µm/px, one every `stride_px` (default: the
    size).

    A tile is kept if at least `min_tissue_fraction` of it is tissue. Scale is always µm/px, never objective
    power.
    """

    mpp: float = Field(default=0.5, gt=0, description="µm per tile pixel")
    size_px: int = Field(default=256, ge=1, description="side of a tile, in pixels at `mpp`")
    stride_px: int | None = Field(default=None, ge=1, description="step of the tile grid, in pixels at `mpp`")
    min_tissue_fraction: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _fill_stride(self) -> "TileSpec":
        if self.stride_px is None:
            object.__setattr__(self, "stride_px", self.size_px)
        return self

    @field_serializer("stride_px")
    def _default_stays_default(self, stride_px: int | None) -> int | None:
        # if somebody changes the size in a saved configuration, the stride must follow
        return None if stride_px == self.size_px else stride_px

    def explicit(self) -> dict[str, Any]:
        """Return all values, the stride included, as digests and stores use them."""
        return self.model_dump(mode="json") | {"stride_px": self.step_px}

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change whenever a setting does."""
        return digest_json(self.explicit())

    @property
    def step_px(self) -> int:
        """Distance between neighbouring tiles, in pixels at `mpp`."""
        return self.stride_px if self.stride_px is not None else self.size_px

    @property
    def size_um(self) -> float:
        """Side of a tile in µm."""
        return self.size_px * self.mpp


@dataclass(frozen=True)
class ReadPlan(Record):
    """How the tiles of one slide are read: regions of `level`, which are then resampled to the tile size.

    downsample_x, downsample_y: level-0 pixels per pixel of the level.
    read_width_px, read_height_px: the region, in pixels of the level.
    tile_width0_px, tile_height0_px: the tile, in level-0 pixels; not whole numbers in general.
    """

    level: int
    downsample_x: float
    downsample_y: float
    read_width_px: int
    read_height_px: int
    tile_width0_px: float
    tile_height0_px: float

    def __post_init__(self) -> None:
        require(self.level >= 0, "read plan", "level", "0 or more", self.level)
        for field in ("downsample_x", "downsample_y", "tile_width0_px", "tile_height0_px"):
            value = getattr(self, field)
            require(above_zero(value), "read plan", field, "positive", value)
        for field in ("read_width_px", "read_height_px"):
            value = getattr(self, field)
            require(value >= 1, "read plan", field, "1 or more", value)


@dataclass(frozen=True, eq=False)
class TileTable(Record):
    """The kept tiles of one slide, sorted by (y, x). The row number identifies a tile.

    coords (N, 2) int32: upper left corners (x, y), in level-0 pixels.
    tissue (N,) float32: the fraction of the tile that is tissue, 0 to 1.
    slide_size_px: (width, height) of level 0. mpp_xy: µm per level-0 pixel along x and y.
    tissue_source: what found the tissue, see `TissueMask.source`; "imported" where another tool made the
    tiles.
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
        require_name(self.slide_id, where, "slide_id")
        require_name(self.tissue_source, where, "tissue_source")
        require(min(self.slide_size_px) >= 1, where, "slide_size_px", "1 or more", self.slide_size_px)
        require(above_zero(*self.mpp_xy), where, "mpp_xy", "positive", self.mpp_xy)
        require_array(self.coords, where, "coords", ("N", 2), np.int32)
        require_array(self.tissue, where, "tissue", (len(self.coords),), np.float32)
        within = bool(((self.tissue >= 0) & (self.tissue <= 1)).all())
        require(within, where, "tissue", "fractions from 0 to 1", _outside_0_1(self.tissue))
        if len(self.coords):
            self._check_coords(where)

    def _check_coords(self, where: str) -> None:
        x0, y0 = self.coords.T.astype(np.int64)
        order = y0 * (int(x0.max()) + 1) + x0
        falls = np.flatnonzero(np.diff(order) <= 0)
        found = self.coords[falls[0] : falls[0] + 2].tolist() if len(falls) else None
        require(found is None, where, "coords", "unique and sorted by (y, x)", found)
        width, height = self.slide_size_px
        right, lower = x0.max() + self.plan.tile_width0_px, y0.max() + self.plan.tile_height0_px
        inside = min(x0.min(), y0.min()) >= 0 and right <= width + 1 and lower <= height + 1
        reach = f"tiles from ({x0.min()}, {y0.min()}) to ({right:.1f}, {lower:.1f})"
        require(inside, where, "coords", f"inside the slide of {width} x {height} px", reach)

    def __len__(self) -> int:
        return len(self.coords)

    def digest(self) -> str:
        """Return 16 hexadecimal digits of settings, coordinates, tissue and slide size: they identify every
        row."""
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


def _outside_0_1(values: NDArray[np.float32]) -> list[float]:
    """Return the first few values that are not from 0 to 1, NaN among them."""
    found: list[float] = values[~((values >= 0) & (values <= 1))][:4].tolist()
    return found
