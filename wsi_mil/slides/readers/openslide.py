"""The reader `openslide`: slides through the OpenSlide library."""

from typing import Any, final

from wsi_mil.contracts.arrays import RGB
from wsi_mil.slides.files import FileReader
from wsi_mil.slides.inspection import Inspection
from wsi_mil.slides.openslide_pixels import Blocks, library_version, open_handle, read_pixels
from wsi_mil.slides.tiff_pages import BLACK_IS_ZERO
from wsi_mil.slides.tiff_pages import RGB as RGB_PIXELS


@final
class OpenSlideReader(FileReader):
    """Reads every format of OpenSlide: SVS, NDPI, MRXS, SCN, BIF, VMS, DICOM, tiled TIFF, ..."""

    name = library = "openslide"

    def _open_handle(self) -> Any:
        return open_handle(self._path)

    def _version(self) -> str:
        return library_version()

    def _why_not(self, inspection: Inspection) -> str:
        # The library turns gray into RGB, and lays colours that are multiplied by their opacity over white.
        slide = inspection.levels[0]
        if slide.photometric in (BLACK_IS_ZERO, RGB_PIXELS) and not slide.planar:
            return ""
        return super()._why_not(inspection)

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        blocks: Blocks = self._local.__dict__.setdefault("blocks", Blocks())
        return read_pixels(handle, blocks, level, x_px, y_px, width_px, height_px)


READER = OpenSlideReader
