"""The fast path for tiled JPEG (SVS, generic TIFF): OpenSlide says what the slide is, its raw tiles give the pixels.

OpenSlide spends several times as long on a region as libjpeg-turbo on the tiles below it (benchmarks/extraction.py). Here every tile is
fetched by its offset and decoded once, however many regions touch it, and a level's pixels are its own: nothing is interpolated.
"""

import os
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides.file_readers import MppOverride, OpenSlideReader

VENDORS = ("aperio", "generic-tiff")
"""Formats whose levels are TIFF directories pixel for pixel: no padding, no overlap, no stage positions."""
ROWS_KEPT = 3
"""Of the widest level's tiles: a row of tiles that lies across two rows of the file, and where the threads are ahead."""
CACHE_BYTES = 256 << 20
JPEG, RGB_PHOTOMETRIC, YCBCR_PHOTOMETRIC = 7, 2, 6

Key = tuple[int, int, int]


@dataclass(frozen=True)
class TiledLevel:
    """One level in its file: where each JPEG tile lies (row by row), and what its decoder must know."""

    tile_width_px: int
    tile_height_px: int
    columns: int
    offsets: NDArray[np.int64]
    byte_counts: NDArray[np.int64]
    tables: bytes | None
    photometric: int


class JpegTilesReader(OpenSlideReader):
    """Reads tiled JPEG levels by their raw tiles; raises SlideError, saying why, for a file that is not made of them.

    Where a pyramid leaves tiles out, OpenSlide is asked, which knows what to show there.
    """

    name = "jpeg_tiles"

    def __init__(self, path: str, *, slide_id: str, mpp: MppOverride = None) -> None:
        super().__init__(path, slide_id=slide_id, mpp=mpp)
        try:
            self._levels = _find_levels(path, slide_id, self.info.vendor, self.info.level_sizes_px)
        except SlideError:
            self.close()
            raise
        row = max(level.columns * level.tile_width_px * level.tile_height_px * 3 for level in self._levels)
        self._decoded = _Cache(min(ROWS_KEPT * row, CACHE_BYTES))
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def _version(self) -> str:
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__}, openslide {super()._version()}"

    def close(self) -> None:
        if not self._closed and hasattr(self, "_file"):
            os.close(self._file)
        super().close()

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        tiled = self._levels[level]
        left, right = x_px // tiled.tile_width_px, (x_px + width_px - 1) // tiled.tile_width_px
        top, lower = y_px // tiled.tile_height_px, (y_px + height_px - 1) // tiled.tile_height_px
        numbers = np.add.outer(np.arange(top, lower + 1) * tiled.columns, np.arange(left, right + 1))
        if (tiled.byte_counts[numbers] == 0).any():
            return self._from_library(handle, level, x_px, y_px, width_px, height_px)
        whole = (width_px, height_px) == (tiled.tile_width_px, tiled.tile_height_px)
        if whole and numbers.size == 1:
            # nothing else of this tile is left to be read: it is handed on and not kept
            kept = self._decoded.get((level, top, left))
            return self._decode(level, int(numbers[0, 0])) if kept is None else kept.copy()
        region = np.empty((height_px, width_px, 3), np.uint8)
        for row in range(top, lower + 1):
            for column in range(left, right + 1):
                tile = self._tile(level, row, column, int(numbers[row - top, column - left]))
                x, y = column * tiled.tile_width_px - x_px, row * tiled.tile_height_px - y_px
                here = region[max(y, 0) : y + tiled.tile_height_px, max(x, 0) : x + tiled.tile_width_px]
                here[:] = tile[max(-y, 0) :, max(-x, 0) :][: here.shape[0], : here.shape[1]]
        return region

    def _from_library(
        self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int
    ) -> RGB:
        """What the file holds no tile for."""
        return super()._read(handle, level, x_px, y_px, width_px, height_px)

    def _tile(self, level: int, row: int, column: int, number: int) -> RGB:
        key = (level, row, column)
        tile = self._decoded.get(key)
        if tile is None:
            tile = self._decode(level, number)
            self._decoded.put(key, tile)
        return tile

    def _decode(self, level: int, number: int) -> RGB:
        import imagecodecs

        tiled, data = self._levels[level], self._raw(level, number)
        shape = (tiled.tile_height_px, tiled.tile_width_px, 3)
        tile: RGB = imagecodecs.jpeg8_decode(
            data,
            tables=tiled.tables,
            colorspace=RGB_PHOTOMETRIC if self._is_rgb(level, data) else None,
            outcolorspace=RGB_PHOTOMETRIC,
            out=self._decoded.memory(shape),
        )
        if tile.shape != shape:
            raise SlideError(
                f"tile {number} of level {level} is {tile.shape}, not {tiled.tile_width_px} px wide as said"
            )
        return tile

    def _raw(self, level: int, number: int) -> bytes:
        tiled = self._levels[level]
        count = int(tiled.byte_counts[number])
        data = os.pread(self._file, count, int(tiled.offsets[number]))
        if len(data) != count:
            raise SlideError(f"the file ends inside tile {number} of level {level}")
        return data

    def _is_rgb(self, level: int, data: bytes) -> bool:
        """An RGB file without a JFIF header (Aperio) holds RGB in its JPEGs as well; otherwise they are YCbCr."""
        return self._levels[level].photometric == RGB_PHOTOMETRIC and data[6:10] != b"JFIF"


class _Cache:
    """The last decoded tiles, shared by the threads of a reader.

    The memory of a tile that is dropped takes the next one: fresh pages from the system cost half as much as decoding.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[Key, RGB] = OrderedDict()
        self._free: list[RGB] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> RGB | None:
        with self._lock:
            tile = self._held.get(key)
            if tile is not None:
                self._held.move_to_end(key)
            return tile

    def memory(self, shape: tuple[int, ...]) -> RGB | None:
        """Return an array of `shape` that nobody uses any more, or None."""
        with self._lock:
            if self._free and self._free[-1].shape == shape:
                return self._free.pop()
            return None

    def put(self, key: Key, tile: RGB) -> None:
        with self._lock:
            if key in self._held:  # another thread was as fast
                return
            self._held[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._limit and len(self._held) > 1:
                oldest, references = _take_oldest(self._held)
                self._bytes -= oldest.nbytes
                if references == ALONE:  # no thread copies from it any more
                    self._free = [oldest]


def _take_oldest(held: "OrderedDict[Key, RGB]") -> tuple[RGB, int]:
    """Take out the oldest tile; return it, and how many references to it there were then."""
    tile = held.popitem(last=False)[1]
    return tile, sys.getrefcount(tile)


ALONE = _take_oldest(OrderedDict({(0, 0, 0): np.empty((1, 1, 3), np.uint8)}))[1]
"""References to a tile that nobody else holds: measured, since interpreters count their own differently."""


def _find_levels(
    path: str, slide_id: str, vendor: str, level_sizes_px: tuple[tuple[int, int], ...]
) -> tuple[TiledLevel, ...]:
    """Return where the tiles of each level lie. Raises SlideError, with the reason, unless all levels are plain tiled JPEG."""
    import tifffile

    if vendor not in VENDORS:
        raise SlideError(f"slide {slide_id!r} is no plain pyramid of tiles for jpeg_tiles: format {vendor!r}")
    if not hasattr(os, "pread"):
        raise SlideError(f"slide {slide_id!r}: jpeg_tiles needs positioned reads, which this system lacks")
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [tiff.pages[number] for number in range(len(tiff.pages))]
            return tuple(_tiled(pages, size, slide_id) for size in level_sizes_px)
    except SlideError:
        raise
    except Exception as error:
        raise SlideError(
            f"slide {slide_id!r} cannot be read by tifffile ({type(error).__name__}: {error})"
        ) from error


def _tiled(pages: list[Any], size_px: tuple[int, int], slide_id: str) -> TiledLevel:
    width, height = size_px
    own = [page for page in pages if page.is_tiled and (page.imagewidth, page.imagelength) == size_px]
    if len(own) != 1:
        raise SlideError(
            f"slide {slide_id!r}: {len(own)} tiled images of {width} x {height} px, jpeg_tiles needs one"
        )
    page = own[0]
    if page.compression != JPEG:
        raise SlideError(
            f"slide {slide_id!r} is compressed by {page.compression.name}, jpeg_tiles reads JPEG"
        )
    if page.photometric not in (RGB_PHOTOMETRIC, YCBCR_PHOTOMETRIC) or page.planarconfig != 1:
        raise SlideError(f"slide {slide_id!r}: jpeg_tiles reads RGB and YCbCr, not {page.photometric.name}")
    if (page.samplesperpixel, page.bitspersample) != (3, 8):
        raise SlideError(
            f"slide {slide_id!r}: {page.samplesperpixel} samples of {page.bitspersample} bits, expected 3 of 8"
        )
    columns, rows = -(-width // page.tilewidth), -(-height // page.tilelength)
    offsets, counts = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
    if not len(offsets) == len(counts) == columns * rows:
        raise SlideError(
            f"slide {slide_id!r}: {len(offsets)} tiles listed, {columns} x {rows} needed: copy it again"
        )
    return TiledLevel(
        page.tilewidth, page.tilelength, columns, offsets, counts, page.jpegtables, int(page.photometric)
    )
