"""Slides in files: OpenSlide and tiffslide behind the one interface."""

import logging
import math
from collections import OrderedDict
from typing import Any

import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.errors import SlideError
from wsi_mil.slides.base import SlideReader
from wsi_mil.slides.mpp import find_scale

BLOCK_PX = 512
BLOCKS_KEPT = 64  # a row of tiles across a large slide

MppOverride = float | tuple[float, float] | None


class _FileReader(SlideReader):
    """What the two libraries share: they speak the same API, OpenSlide's."""

    name = ""
    library = ""

    def __init__(self, path: str, *, slide_id: str, mpp: MppOverride = None) -> None:
        super().__init__()
        self._arguments = (path, slide_id, mpp)
        self._path = path
        try:
            handle = self._open_handle()
        except SlideError:
            raise
        except Exception as error:
            raise SlideError(
                f"slide {slide_id!r} cannot be opened by {self.library} ({type(error).__name__}: {error}): {path}"
            ) from error
        self._local.handle = handle
        self._handles.append(handle)
        properties = {key: value for key, value in dict(handle.properties).items() if value is not None}
        try:
            scale = find_scale(properties, slide_id, mpp)
        except SlideError:
            self.close()
            raise
        sizes = tuple((int(width), int(height)) for width, height in handle.level_dimensions)
        self.info = SlideInfo(
            slide_id=slide_id,
            path=path,
            level_sizes_px=sizes,
            level_downsamples=tuple(float(d) for d in handle.level_downsamples),
            mpp_x=scale.mpp_x,
            mpp_y=scale.mpp_y,
            mpp_source=scale.source,
            bounds=_bounds(properties),
            vendor=str(properties.get(f"{self.library}.vendor", "unknown")),
            reader=self.name,
            reader_version=self._version(),
            notes=scale.notes,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        path, slide_id, mpp = self._arguments
        return _reopen, (type(self), path, slide_id, mpp)

    def _version(self) -> str:
        raise SlideError("a reader must say its version")


class OpenSlideReader(_FileReader):
    """Reads what OpenSlide reads: SVS, NDPI, MRXS, SCN, BIF, VMS, DICOM, tiled TIFF, ..."""

    name = library = "openslide"

    def _open_handle(self) -> Any:
        import openslide

        return openslide.OpenSlide(self._path)

    def _version(self) -> str:
        import openslide

        return f"{openslide.__version__} (library {openslide.__library_version__})"

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        if handle.level_downsamples[level].is_integer():
            return self._pixels(handle, level, x_px, y_px, width_px, height_px)
        # Between whole pixels of a level the library interpolates, so the same pixel would differ from cut to cut by up to
        # 20 grey levels: here it always comes from the same block.
        region = np.empty((height_px, width_px, 3), np.uint8)
        for row in range(y_px // BLOCK_PX, (y_px + height_px - 1) // BLOCK_PX + 1):
            for column in range(x_px // BLOCK_PX, (x_px + width_px - 1) // BLOCK_PX + 1):
                block = self._block(handle, level, column, row)
                left, top = column * BLOCK_PX - x_px, row * BLOCK_PX - y_px
                here = region[max(top, 0) : top + BLOCK_PX, max(left, 0) : left + BLOCK_PX]
                inner = block[max(-top, 0) :, max(-left, 0) :]
                here[:] = inner[: here.shape[0], : here.shape[1]]
        return region

    def _block(self, handle: Any, level: int, column: int, row: int) -> RGB:
        """One block of a level; this thread's last ones are kept, since neighbouring tiles share them."""
        blocks: OrderedDict[tuple[int, int, int], RGB] = self._local.__dict__.setdefault(
            "blocks", OrderedDict()
        )
        key = (level, column, row)
        if key not in blocks:
            level_width, level_height = handle.level_dimensions[level]
            x_px, y_px = column * BLOCK_PX, row * BLOCK_PX
            width, height = min(BLOCK_PX, level_width - x_px), min(BLOCK_PX, level_height - y_px)
            blocks[key] = self._pixels(handle, level, x_px, y_px, width, height)
            if len(blocks) > BLOCKS_KEPT:
                blocks.popitem(last=False)
        blocks.move_to_end(key)
        return blocks[key]

    def _pixels(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        # The library divides level-0 coordinates by its own downsample, the mean of both sides: undo that one.
        downsample = handle.level_downsamples[level]
        origin = (round(x_px * downsample), round(y_px * downsample))
        rgba = np.asarray(handle.read_region(origin, level, (width_px, height_px)))
        alpha = rgba[:, :, 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(rgba[:, :, :3])
        # Holes of a sparse pyramid show the scanner's background colour (white where it has none).
        colour = handle.properties.get("openslide.background-color", "FFFFFF")
        background = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
        weight = alpha.astype(np.float32) / 255
        return np.rint(rgba[:, :, :3] * weight + background * (1 - weight)).astype(np.uint8)


class TiffSlideReader(_FileReader):
    """Reads tiled TIFF families through tifffile, and remote files through fsspec, without a C library."""

    name = library = "tiffslide"

    def _open_handle(self) -> Any:
        import tiffslide

        # what tifffile cannot read, our own error says; it would log it to the console of every worker as well
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        return tiffslide.TiffSlide(self._path)

    def _version(self) -> str:
        import tiffslide

        return str(tiffslide.__version__)

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        # It divides level-0 coordinates by the mean of both sides' downsamples and rounds down.
        downsample = handle.level_downsamples[level]
        origin = (math.ceil(x_px * downsample), math.ceil(y_px * downsample))
        pixels = np.asarray(handle.read_region(origin, level, (width_px, height_px), as_array=True))
        return np.ascontiguousarray(pixels[:, :, :3])


def _reopen(kind: type[_FileReader], path: str, slide_id: str, mpp: MppOverride) -> _FileReader:
    return kind(path, slide_id=slide_id, mpp=mpp)


def _bounds(properties: dict[str, Any]) -> Bounds | None:
    """All four `openslide.bounds-*` as whole numbers, or none (rules Q34, Q35)."""
    try:
        x0, y0, width, height = (
            int(properties[f"openslide.bounds-{k}"]) for k in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return None
    return Bounds(x0, y0, width, height)
