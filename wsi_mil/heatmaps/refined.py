"""Pixel-level maps of a slide's suspicious tiles: a file of their own, and the raster that shows them among the other tiles."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import DataError, StoreError
from wsi_mil.heatmaps.raster import ScoreRaster, score_raster
from wsi_mil.io.files import write_aside
from wsi_mil.io.json import json_line, parse_json

KIND, FORMAT = "refined maps", 1


@dataclass(frozen=True)
class RefinedMaps:
    """rows (K,): which tiles of the table; maps (K, S, S) uint8, 0 to 255 for tumour probabilities 0 to 1 over each tile.

    The digests say of which tile table, slide model and refiner they are.
    """

    slide_id: str
    rows: NDArray[np.int32]
    maps: NDArray[np.uint8]
    tiles_digest: str
    model_digest: str
    refiner_digest: str

    def __post_init__(self) -> None:
        if (
            self.maps.ndim != 3
            or self.maps.shape[1] != self.maps.shape[2]
            or len(self.maps) != len(self.rows)
        ):
            raise DataError(
                f"refined maps of {self.slide_id!r}: {self.maps.shape} for {len(self.rows)} tiles, expected (K, S, S)"
            )

    def pixels_per_stride(self, table: TileTable) -> int:
        """Return how many pixels of the maps lie along a tile's stride: the grid on which they are drawn and compared."""
        side: int = self.maps.shape[1]
        return max(round(side * table.spec.step_px / table.spec.size_px), 1)


def write_refined(path: Path, refined: RefinedMaps) -> None:
    """Write one .npz: rows, maps, and a header in JSON."""
    header = {
        "kind": KIND,
        "format_version": FORMAT,
        **{
            key: getattr(refined, key)
            for key in ("slide_id", "tiles_digest", "model_digest", "refiner_digest")
        },
    }
    with write_aside(path) as aside, aside.open("wb") as file:
        text = np.frombuffer(json_line(header, sort=True).encode(), np.uint8)
        np.savez_compressed(file, header=text, rows=refined.rows, maps=refined.maps)


def read_refined_header(path: Path) -> dict[str, Any] | None:
    """Return what the maps say of themselves, None if there are none."""
    if not path.exists():
        return None
    return _read(path)[0]


def read_refined(path: Path) -> RefinedMaps:
    """Return what `write_refined` wrote. Raises StoreError for a file that is broken or of another kind."""
    header, rows, maps = _read(path)
    digests = {key: header[key] for key in ("tiles_digest", "model_digest", "refiner_digest")}
    return RefinedMaps(header["slide_id"], rows, maps, **digests)


def _read(path: Path) -> tuple[dict[str, Any], NDArray[np.int32], NDArray[np.uint8]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header = parse_json(arrays["header"].tobytes())
            rows, maps = arrays["rows"], arrays["maps"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(
            f"{path} cannot be read ({error}): remove it and run `wsi-mil refine` again"
        ) from error
    if (header.get("kind"), header.get("format_version")) != (KIND, FORMAT):
        raise StoreError(
            f"{path} is no file of {KIND} of format {FORMAT}: remove it and run `wsi-mil refine` again"
        )
    return header, rows, maps


def anchored(probability: NDArray[np.floating], threshold: float) -> NDArray[np.float32]:
    """Return pixel probabilities with 0.5 moved to `threshold`, 0 and 1 left in place: one threshold for refined and other tiles.

    >>> anchored(np.array([0, 0.25, 0.5, 1], np.float32), 0.2).round(2).tolist()
    [0.0, 0.10000000149011612, 0.20000000298023224, 1.0]
    """
    return np.asarray(np.interp(probability, [0, 0.5, 1], [0, threshold, 1]), np.float32)


def refined_raster(
    table: TileTable, probabilities: NDArray[np.float32], refined: RefinedMaps, threshold: float
) -> ScoreRaster:
    """Return the raster of tile probabilities in which each refined tile shows its map; where maps overlap, their mean.

    The maps' 0.5 is the slide model's `threshold`.
    """
    base = score_raster(table, probabilities, refined.pixels_per_stride(table))
    total, count = np.zeros(base.values.shape, np.float32), np.zeros(base.values.shape, np.uint16)
    corners = table.coords[refined.rows].astype(np.float64)
    size = np.array([table.plan.tile_width0_px, table.plan.tile_height0_px])
    scale = np.array([base.scale_x_px, base.scale_y_px])
    limits = np.array(base.values.shape[::-1])
    first, last = np.rint(corners / scale).astype(int), np.rint((corners + size) / scale).astype(int)
    for (left, top), (right, lower), values in zip(first, last, refined.maps, strict=True):
        tile = cv2.resize(
            values.astype(np.float32) / 255, (right - left, lower - top), interpolation=cv2.INTER_LINEAR
        )
        width, height = np.minimum([right, lower], limits) - [left, top]
        total[top:lower, left:right] += tile[:height, :width]
        count[top:lower, left:right] += 1
    with np.errstate(invalid="ignore"):
        shown = np.where(count > 0, anchored(total / np.maximum(count, 1), threshold), base.values)
    return ScoreRaster(shown.astype(np.float32), base.scale_x_px, base.scale_y_px)
