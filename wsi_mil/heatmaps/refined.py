"""Pixel-level maps of a slide's suspicious tiles: their file, and the raster that shows them among the other
tiles."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.record import Record, require, require_array, require_name
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import StoreError
from wsi_mil.heatmaps.raster import ScoreRaster, score_raster
from wsi_mil.io.bounded import read_npz
from wsi_mil.io.files import digest_bytes, write_aside
from wsi_mil.io.json import json_line, parse_json
from wsi_mil.io.seals import DamagedFileError, require_digest, sealed, unsealed

KIND, FORMAT = "refined maps", 1
AGAIN = "remove it and run `wsi-mil refine` again"


@dataclass(frozen=True)
class RefinedHeader(Record):
    """What a file of maps belongs to: a slide, and the digests of its tile table, slide model, refiner and
    features.

    A slide that was replaced may have the same tile table, but not the same features. Files of earlier
    versions do not state these: "".
    """

    slide_id: str
    tiles_digest: str
    model_digest: str
    refiner_digest: str
    features_digest: str = ""

    def __post_init__(self) -> None:
        require_name(self.slide_id, f"refined maps of slide {self.slide_id!r}", "slide_id")

    def digests(self) -> dict[str, str]:
        """Return the digests by name."""
        return {name: value for name, value in asdict(self).items() if name != "slide_id"}


@dataclass(frozen=True, eq=False)
class RefinedMaps(Record):
    """Maps of tumour probability over the tiles of one slide that were refined.

    rows (K,) int32: which tiles of the table. maps (K, S, S) uint8: 0 to 255 for probabilities 0 to 1.
    The digests identify the tile table, the slide model, the refiner and the features.
    """

    slide_id: str
    rows: NDArray[np.int32]
    maps: NDArray[np.uint8]
    tiles_digest: str
    model_digest: str
    refiner_digest: str
    features_digest: str = ""

    def __post_init__(self) -> None:
        where = f"refined maps of slide {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id")
        require_array(self.rows, where, "rows", ("K",), np.int32)
        require_array(self.maps, where, "maps", (len(self.rows), "S", "S"), np.uint8)
        square = self.maps.shape[1] == self.maps.shape[2]
        require(square, where, "maps", "square, (K, S, S)", self.maps)

    @property
    def header(self) -> RefinedHeader:
        """What the maps belong to."""
        return RefinedHeader(
            self.slide_id, self.tiles_digest, self.model_digest, self.refiner_digest, self.features_digest
        )

    def pixels_per_stride(self, table: TileTable) -> int:
        """Return how many pixels of the maps lie along a tile's stride; on this grid they are drawn and
        compared."""
        side: int = self.maps.shape[1]
        return max(round(side * table.spec.step_px / table.spec.size_px), 1)


def write_refined(path: Path, refined: RefinedMaps) -> None:
    """Write one .npz: rows, maps, and a header in JSON."""
    values = {"values_digest": _values_digest(refined.rows, refined.maps)}
    header = sealed({"kind": KIND, "format_version": FORMAT, **asdict(refined.header), **values})
    with write_aside(path) as aside, aside.open("wb") as file:
        text = np.frombuffer(json_line(header, sort=True).encode(), np.uint8)
        np.savez_compressed(file, header=text, rows=refined.rows, maps=refined.maps)


def read_refined_header(path: Path) -> RefinedHeader | None:
    """Return the header of a file of maps; None if there is no such file. Raises StoreError as
    `read_refined`."""
    return _read(path)[0] if path.exists() else None


def read_refined(path: Path) -> RefinedMaps:
    """Return what `write_refined` wrote. Raises StoreError for a file that is broken or of another kind."""
    header, rows, maps = _read(path)
    return RefinedMaps(header.slide_id, rows, maps, **header.digests())


def _read(path: Path) -> tuple[RefinedHeader, NDArray[np.int32], NDArray[np.uint8]]:
    try:
        arrays = read_npz(path)
        header = unsealed(parse_json(arrays["header"].tobytes()), path, AGAIN)
        rows, maps = arrays["rows"].astype(np.int32, copy=False), arrays["maps"].astype(np.uint8, copy=False)
        if (expected := header.get("values_digest")) is not None:  # absent in files of earlier versions
            require_digest(path, expected, _values_digest(rows, maps), AGAIN)
    except DamagedFileError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds of errors for bytes that they cannot read
        what = f"it cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"
        raise DamagedFileError(path, what, AGAIN) from error
    if (header.get("kind"), header.get("format_version")) != (KIND, FORMAT):
        raise StoreError(
            f"{path} is no file of {KIND} of format {FORMAT}: remove it and run `wsi-mil refine` again"
        )
    header.setdefault("features_digest", "")
    return RefinedHeader(**{field.name: header[field.name] for field in fields(RefinedHeader)}), rows, maps


def _values_digest(rows: NDArray[np.int32], maps: NDArray[np.uint8]) -> str:
    return digest_bytes(rows.tobytes(), str(maps.shape).encode(), maps.tobytes())


def anchored(probability: NDArray[np.floating], threshold: float) -> NDArray[np.float32]:
    """Return pixel probabilities, changed so that 0.5 becomes `threshold`, while 0 and 1 stay as they are.

    In between, values are interpolated. Refined tiles and other tiles then share one threshold.

    >>> anchored(np.array([0, 0.25, 0.5, 1], np.float32), 0.2).round(2).tolist()
    [0.0, 0.10000000149011612, 0.20000000298023224, 1.0]
    """
    return np.asarray(np.interp(probability, [0, 0.5, 1], [0, threshold, 1]), np.float32)


def refined_raster(
    table: TileTable, probabilities: NDArray[np.float32], refined: RefinedMaps, threshold: float
) -> ScoreRaster:
    """Return the raster of tile probabilities (N,), in which each refined tile shows its map.

    Where maps overlap, their mean is shown. A map's 0.5 becomes the slide model's `threshold`.
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
