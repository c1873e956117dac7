"""The reader `tiffslide`: tiled TIFF families through tifffile, and remote files."""

import logging
import math
from typing import Any

import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.slides.files import FileReader


class TiffSlideReader(FileReader):
    """Reads tiled TIFF families through tifffile, and remote files through fsspec, without a C library."""

    name = library = "tiffslide"

    def _open_handle(self) -> Any:
        import tiffslide

        # Our own error reports what tifffile cannot read; tifffile would log it on every worker, too.
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        return tiffslide.TiffSlide(self._path)

    def _version(self) -> str:
        import tiffslide

        return str(tiffslide.__version__)

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        # tiffslide divides level-0 coordinates by the mean of both sides' downsamples and rounds down.
        downsample = handle.level_downsamples[level]
        origin = (math.ceil(x_px * downsample), math.ceil(y_px * downsample))
        pixels = np.asarray(handle.read_region(origin, level, (width_px, height_px), as_array=True))
        return np.ascontiguousarray(pixels[:, :, :3])


READER = TiffSlideReader
