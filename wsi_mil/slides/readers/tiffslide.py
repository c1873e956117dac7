"""The reader `tiffslide`: formats based on tiled TIFF, also behind URLs."""

import logging
import math
from typing import Any, final

import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.io.remote import is_url, open_url
from wsi_mil.slides import tiff_headers
from wsi_mil.slides.files import FileReader
from wsi_mil.slides.inspection import Inspection, inspect_open


@final
class TiffSlideReader(FileReader):
    """Reads formats based on tiled TIFF through tifffile, also behind URLs (fsspec).

    It needs no C library. Where a file has no tiles, it shows black; the other readers show the background.
    """

    name = library = "tiffslide"

    def _open_handle(self) -> Any:
        import tiffslide

        # Our own error says what tifffile cannot read; without this line tifffile logs it again on every
        # worker.
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        if is_url(self._path):
            files, path = open_url(self._path)
            with files.open(path, "rb") as file:
                tiff_headers.check_headers(file, self._path)
        return tiffslide.TiffSlide(self._path if is_url(self._path) else _local(self._path))

    def _inspect_handle(self, handle: Any, slide_id: str) -> Inspection | None:
        return inspect_open(handle.ts_tifffile, self._path, slide_id)

    def _version(self) -> str:
        import tiffslide

        return str(tiffslide.__version__)

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        # tiffslide divides level-0 coordinates by the mean of both sides' downsamples and rounds down.
        downsample = handle.level_downsamples[level]
        origin = (math.ceil(x_px * downsample), math.ceil(y_px * downsample))
        pixels = np.asarray(handle.read_region(origin, level, (width_px, height_px), as_array=True))
        return np.ascontiguousarray(pixels)


def _local(path: str) -> Any:
    """Return a file that tiffslide opens as a path, also where its name holds '::', which chains URLs."""
    from fsspec.core import OpenFile
    from fsspec.implementations.local import LocalFileSystem

    return OpenFile(LocalFileSystem(), path)


READER = TiffSlideReader
