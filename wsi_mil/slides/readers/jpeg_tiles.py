"""The reader `jpeg_tiles`: a faster one for tiled JPEG (SVS, generic TIFF).

OpenSlide gives the properties and levels of the slide. The pixels come from the JPEG tiles of the file, which
are read at their offsets and decoded by libjpeg-turbo. OpenSlide takes several times as long for the same
region (benchmarks/extraction.py). A tile is decoded once for all regions that touch it, and no pixel is
interpolated.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides.files import FileReader, MppOverride
from wsi_mil.slides.inspection import Inspection
from wsi_mil.slides.openslide_pixels import Blocks, library_version, open_handle, read_pixels
from wsi_mil.slides.tiff_pages import JPEG, TiffContent, TiffPage, tiff_content

VENDORS = ("aperio", "generic-tiff")
"""Formats in which each level is one TIFF directory, without padding, overlap or positions of the stage."""
ROWS_KEPT = 3
"""Rows of the file's tiles that the cache holds: our tiles may cross two, and threads read ahead by one."""
CACHE_BYTES = 256 << 20
"""The cache never holds more than this."""
RGB_PHOTOMETRIC, YCBCR_PHOTOMETRIC = 2, 6

Key = tuple[int, int, int]


@dataclass(frozen=True)
class TiledLevel:
    """One level in its file: offset and size of each JPEG tile, row by row, and what the decoder needs.

    `tables`: the quantisation and Huffman tables that the tiles share. `photometric`: the TIFF tag of that
    name.
    """

    tile_width_px: int
    tile_height_px: int
    columns: int
    offsets: NDArray[np.int64]
    byte_counts: NDArray[np.int64]
    tables: bytes | None
    photometric: int


@final
class JpegTilesReader(FileReader):
    """Reads slides whose levels are tiled JPEG; raises SlideError, with the reason, for any other file.

    Regions in which the file has no tiles are read through OpenSlide, which knows the background colour.
    """

    name, library = "jpeg_tiles", "openslide"

    def __init__(self, path: str, *, slide_id: str, mpp: MppOverride = None) -> None:
        super().__init__(path, slide_id=slide_id, mpp=mpp)
        try:
            sizes = self._local.handle.level_dimensions
            own = [sizes[number] for number in self._library_levels]
            found = _find_levels(path, slide_id, self.info.vendor, own)
            self._levels = dict(zip(self._library_levels, found, strict=True))
        except SlideError:
            self.close()
            raise
        row = max(level.columns * level.tile_width_px * level.tile_height_px * 3 for level in found)
        self._decoded = _Cache(min(ROWS_KEPT * row, CACHE_BYTES))
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._size = os.fstat(self._file).st_size

    def _open_handle(self) -> Any:
        return open_handle(self._path)

    def _why_not(self, inspection: Inspection) -> str:
        # Before OpenSlide opens the file, which takes longer than all else.
        slide = inspection.levels[0]
        if slide.tile_px is None or slide.compression != JPEG:
            return _not_jpeg(slide)
        return super()._why_not(inspection)

    def _version(self) -> str:
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__}, openslide {library_version()}"

    def close(self) -> None:
        """Close the file and the handles of OpenSlide; later reads raise SlideError."""
        if not self._closed and hasattr(self, "_file"):
            os.close(self._file)
        super().close()

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        tiled = self._levels[level]
        left, right = x_px // tiled.tile_width_px, (x_px + width_px - 1) // tiled.tile_width_px
        top, lower = y_px // tiled.tile_height_px, (y_px + height_px - 1) // tiled.tile_height_px
        numbers = np.add.outer(np.arange(top, lower + 1) * tiled.columns, np.arange(left, right + 1))
        if (tiled.byte_counts[numbers] == 0).any():  # the file has no such tiles
            blocks: Blocks = self._local.__dict__.setdefault("blocks", Blocks())
            return read_pixels(handle, blocks, level, x_px, y_px, width_px, height_px)
        whole = (width_px, height_px) == (tiled.tile_width_px, tiled.tile_height_px)
        if whole and numbers.size == 1:  # exactly one tile of the file: the cache is not needed
            return self._whole_tile((level, top, left), int(numbers[0, 0]))
        region = np.empty((height_px, width_px, 3), np.uint8)
        for row in range(top, lower + 1):
            for column in range(left, right + 1):
                x, y = column * tiled.tile_width_px - x_px, row * tiled.tile_height_px - y_px
                here = region[max(y, 0) : y + tiled.tile_height_px, max(x, 0) : x + tiled.tile_width_px]
                tile = self._borrow((level, row, column), int(numbers[row - top, column - left]))
                try:
                    here[:] = tile.pixels[max(-y, 0) :, max(-x, 0) :][: here.shape[0], : here.shape[1]]
                finally:
                    self._decoded.give_back(tile)
        return region

    def _whole_tile(self, key: Key, number: int) -> RGB:
        """Return one tile of the file as an array that the caller may keep."""
        tile = self._decoded.borrow(key)
        if tile is None:
            return self._decode(key[0], number)
        try:
            return tile.pixels.copy()
        finally:
            self._decoded.give_back(tile)

    def _borrow(self, key: Key, number: int) -> "_Tile":
        """Return a decoded tile from the cache, where it is put if needed; the caller gives it back."""
        tile = self._decoded.borrow(key)
        return self._decoded.put(key, self._decode(key[0], number)) if tile is None else tile

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
                f"tile {number} of level {level} is {tile.shape}, the file's directory states {shape}"
            )
        return tile

    def _raw(self, level: int, number: int) -> bytes:
        tiled = self._levels[level]
        count = int(tiled.byte_counts[number])
        offset = int(tiled.offsets[number])
        # compared first: memory for `count` bytes would be taken before any is read
        data = os.pread(self._file, count, offset) if offset + count <= self._size else b""
        if len(data) != count:
            raise SlideError(f"the file ends inside tile {number} of level {level}")
        return data

    def _is_rgb(self, level: int, data: bytes) -> bool:
        """Whether a JPEG holds RGB: in an RGB file, one without a JFIF header does (Aperio).

        Others hold YCbCr.
        """
        return self._levels[level].photometric == RGB_PHOTOMETRIC and data[6:10] != b"JFIF"


@dataclass(eq=False)
class _Tile:
    """A decoded tile, how many callers use it now, and whether the cache still holds it."""

    pixels: RGB
    users: int = 1
    held: bool = True


class _Cache:
    """The tiles that were decoded last, shared by the threads of a reader.

    Callers borrow a tile and give it back, so the cache knows which memory is in use. The next tile is
    decoded into the memory of one that was dropped: to get new memory from the system takes half as long as
    decoding.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[Key, _Tile] = OrderedDict()
        self._free: RGB | None = None
        self._bytes = 0
        self._lock = threading.Lock()

    def borrow(self, key: Key) -> _Tile | None:
        """Return the tile of `key`, which the caller has to give back, or None if it is not held."""
        with self._lock:
            tile = self._held.get(key)
            if tile is not None:
                tile.users += 1
                self._held.move_to_end(key)
            return tile

    def give_back(self, tile: _Tile) -> None:
        """End the use of a tile that `borrow` or `put` returned."""
        with self._lock:
            tile.users -= 1
            self._reuse(tile)

    def memory(self, shape: tuple[int, ...]) -> RGB | None:
        """Return an array of `shape` that is no longer in use, or None."""
        with self._lock:
            if self._free is None or self._free.shape != shape:
                return None
            found, self._free = self._free, None
            return found

    def put(self, key: Key, pixels: RGB) -> _Tile:
        """Keep a newly decoded tile and return it; the caller has to give it back.

        If another thread has put the same tile meanwhile, that one is returned.
        """
        with self._lock:
            if key in self._held:
                tile = self._held[key]
                tile.users += 1
                return tile
            tile = self._held[key] = _Tile(pixels)
            self._bytes += pixels.nbytes
            while self._bytes > self._limit and len(self._held) > 1:
                oldest = self._held.popitem(last=False)[1]
                oldest.held = False
                self._bytes -= oldest.pixels.nbytes
                self._reuse(oldest)
            return tile

    def _reuse(self, tile: _Tile) -> None:
        """Let the next tile take the memory of this one, if it was dropped and no caller uses it."""
        if not tile.held and tile.users == 0:
            self._free = tile.pixels


def _find_levels(
    path: str, slide_id: str, vendor: str, level_sizes_px: Sequence[tuple[int, int]]
) -> tuple[TiledLevel, ...]:
    """Return where the tiles of each level lie in the file.

    Raises SlideError, with the reason, unless every level is one directory of JPEG tiles.
    """
    if vendor not in VENDORS:
        raise SlideError(
            f"slide {slide_id!r} has format {vendor!r}, jpeg_tiles reads {' and '.join(VENDORS)} only"
        )
    if not hasattr(os, "pread"):
        raise SlideError(f"slide {slide_id!r}: jpeg_tiles needs os.pread, which this system does not have")
    content = tiff_content(path)
    return tuple(_tiled(content, size, slide_id) for size in level_sizes_px)


def _tiled(content: TiffContent, size_px: tuple[int, int], slide_id: str) -> TiledLevel:
    """Return the level of `size_px` (width, height) among the directories of the file."""
    width, height = size_px
    top = [page for page in content.pages if len(page.place) == 1]
    own = [page for page in top if page.tile_px is not None and page.size_px == size_px]
    if len(own) != 1:
        raise SlideError(
            f"slide {slide_id!r}: {len(own)} tiled images of {width} x {height} px, jpeg_tiles needs one"
        )
    page, tiles = own[0], content.jpeg_tiles.get(own[0].place)
    if tiles is None or page.tile_px is None:
        raise SlideError(f"slide {slide_id!r}: {_not_jpeg(page)}")
    if page.photometric not in (RGB_PHOTOMETRIC, YCBCR_PHOTOMETRIC) or page.planar:
        raise SlideError(
            f"slide {slide_id!r}: jpeg_tiles reads RGB and YCbCr, not photometric interpretation "
            f"{page.photometric}"
        )
    if (page.samples, page.bits) != (3, 8):
        raise SlideError(
            f"slide {slide_id!r}: {page.samples} samples of {page.bits} bits per pixel, jpeg_tiles reads 3 "
            "of 8 bits"
        )
    columns, rows = -(-width // page.tile_px[0]), -(-height // page.tile_px[1])
    if not len(tiles.offsets) == len(tiles.byte_counts) == columns * rows:
        raise SlideError(
            f"slide {slide_id!r}: the file lists {len(tiles.offsets)} tiles, its size needs {columns} x "
            f"{rows}: copy it again"
        )
    return TiledLevel(
        *page.tile_px, columns, tiles.offsets, tiles.byte_counts, tiles.tables, page.photometric
    )


def _not_jpeg(page: TiffPage) -> str:
    from tifffile import COMPRESSION

    known = {int(value): value.name for value in COMPRESSION}
    name = known.get(page.compression, f"method {page.compression}")
    form = "in tiles" if page.tile_px else "in strips"
    return f"its pixels are {form}, compressed by {name}; jpeg_tiles reads JPEG in tiles"


READER = JpegTilesReader
