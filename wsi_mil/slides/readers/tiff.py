"""The reader `tiff`: every arrangement of a TIFF file that other libraries read wrongly or not at all."""

from collections import OrderedDict
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides.base import GLASS
from wsi_mil.slides.files import FileReader, MppOverride
from wsi_mil.slides.inspection import Inspection, inspect
from wsi_mil.slides.tiff_pages import BLACK_IS_ZERO, CMYK, PALETTE, WHITE_IS_ZERO, YCBCR, TiffPage

CACHE_BYTES = 64 << 20
"""Decoded tiles and strips that each thread keeps."""
DECODED_TO_RGB = (6, 7, 34712, 33003, 33004, 33005, 34892)
"""Compressions (JPEG, JPEG 2000) whose decoder turns YCbCr into RGB."""
PHYSICAL_INKS = 1  # value of the tag InkSet that means cyan, magenta, yellow, black
Segments = OrderedDict[tuple[int, int], NDArray[np.uint8] | None]


class TiffHandle:
    """An open file: the pages of its levels and what its tags state. Used by one thread."""

    def __init__(self, path: str, inspection: Inspection) -> None:
        import tifffile

        self.tiff = tifffile.TiffFile(path)
        try:
            self.pages = [_page(self.tiff, level) for level in inspection.levels]
            self.level_dimensions = [level.size_px for level in inspection.levels]
            width = self.level_dimensions[0][0]
            self.level_downsamples = [width / size[0] for size in self.level_dimensions]
            self.properties = _properties(self.tiff, self.pages[0])
        except BaseException:
            self.tiff.close()
            raise
        self.segments: Segments = Segments()
        self.segment_bytes = 0

    def close(self) -> None:
        """Close the file."""
        self.tiff.close()

    def segment(self, level: int, number: int) -> NDArray[np.uint8] | None:
        """Return one tile or strip (height, width, samples), None where the file has none."""
        key = (level, number)
        if key not in self.segments:
            page = self.pages[level]
            count = page.databytecounts[number]
            decoded = None
            if count:
                self.tiff.filehandle.seek(page.dataoffsets[number])
                data = self.tiff.filehandle.read(count)
                if len(data) != count:
                    raise SlideError(f"the file ends inside tile or strip {number} of level {level}")
                decoded = page.decode(data, number, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
                decoded = None if decoded is None else decoded[0]
            self.segments[key] = decoded
            self.segment_bytes += 0 if decoded is None else decoded.nbytes
            while self.segment_bytes > CACHE_BYTES and len(self.segments) > 1:
                dropped = self.segments.popitem(last=False)[1]
                self.segment_bytes -= 0 if dropped is None else dropped.nbytes
        self.segments.move_to_end(key)
        return self.segments[key]


@final
class TiffReader(FileReader):
    """Reads TIFF in tiles or strips through tifffile.

    It reads pyramids in SubIFDs or without the mark of a reduced image, separate colour planes, gray,
    white-is-zero, palette and CMYK; the last four become RGB. Where a file has no tile, it shows white.
    """

    name = library = "tiff"

    def __init__(self, path: str, *, slide_id: str, mpp: MppOverride = None) -> None:
        self._slide_id = slide_id
        super().__init__(path, slide_id=slide_id, mpp=mpp)

    def _open_handle(self) -> TiffHandle:
        inspection = inspect(self._path, self._slide_id)
        if inspection is None:
            raise SlideError(f"slide {self._slide_id!r} is no TIFF file, which reader 'tiff' needs")
        return TiffHandle(self._path, inspection)

    def _version(self) -> str:
        import tifffile

        return f"tifffile {tifffile.__version__}"

    def _why_not(self, inspection: Inspection) -> str:
        return ""

    def _read(
        self, handle: TiffHandle, level: int, x_px: int, y_px: int, width_px: int, height_px: int
    ) -> RGB:
        page = handle.pages[level]
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        raw = np.zeros((height_px, width_px, page.samplesperpixel), np.uint8)
        absent = np.zeros((height_px, width_px), bool)
        wide = page.tilewidth if page.is_tiled else page.imagewidth
        high = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
        columns, rows = -(-page.imagewidth // wide), -(-page.imagelength // high)
        for row in range(y_px // high, (y_px + height_px - 1) // high + 1):
            for column in range(x_px // wide, (x_px + width_px - 1) // wide + 1):
                left, top = column * wide - x_px, row * high - y_px
                here = np.s_[max(top, 0) : top + high, max(left, 0) : left + wide]
                for plane in range(planes):
                    number = (plane * rows + row) * columns + column
                    segment = handle.segment(level, number)
                    if segment is None:
                        absent[here] = True
                        continue
                    target = raw[here] if planes == 1 else raw[here][..., plane : plane + 1]
                    inner = segment[max(-top, 0) :, max(-left, 0) :]
                    target[:] = inner[: target.shape[0], : target.shape[1]]
        pixels = _as_rgb(raw, page)
        pixels[absent] = GLASS
        return pixels


def _page(tiff: Any, level: TiffPage) -> Any:
    """Return tifffile's page of a level. Raises SlideError if its pixels would come out wrong."""
    page = tiff.pages[level.place[0]]
    if len(level.place) > 1:
        page = page.pages[level.place[1]]
    if level.photometric == YCBCR and int(page.compression) not in DECODED_TO_RGB:
        raise SlideError(
            f"it has YCbCr pixels compressed by {page.compression.name}, which reader 'tiff' cannot read"
        )
    inks = page.tags[332].value if 332 in page.tags else PHYSICAL_INKS
    if level.photometric == CMYK and inks != PHYSICAL_INKS:
        raise SlideError(f"its four inks (InkSet {inks}) are not cyan, magenta, yellow and black")
    return page


def _properties(tiff: Any, page: Any) -> dict[str, str]:
    """Return the tags that may state the scale. The first image of a file holds its OME-XML."""
    first = str(tiff.pages[0].description or "")
    found = {"tiff.ImageDescription": first if "<OME" in first[:4096] else str(page.description or "")}
    for code, name in ((282, "XResolution"), (283, "YResolution")):
        if code in page.tags:
            above, below = page.tags[code].value
            found[f"tiff.{name}"] = str(above / below) if below else "0"
    if 296 in page.tags:
        found["tiff.ResolutionUnit"] = str(int(page.tags[296].value))
    return found


def _as_rgb(raw: NDArray[np.uint8], page: Any) -> NDArray[np.uint8]:
    """Return (H, W, 3), or (H, W, 4) with opacity, of samples as the file stores them.

    CMYK without a colour profile: each ink takes away its part of the light, as in libtiff.
    """
    photometric = int(page.photometric)
    if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        gray = 255 - raw[..., :1] if photometric == WHITE_IS_ZERO else raw[..., :1]
        colours, rest = np.repeat(gray, 3, axis=2), raw[..., 1:]
    elif photometric == PALETTE:
        table = np.asarray(page.colormap)
        if table.shape != (3, 256) or table.dtype != np.uint16:
            raise SlideError(f"its colour table is {table.shape} {table.dtype}, expected (3, 256) uint16")
        table = (table >> 8 if table.max() > 255 else table).astype(np.uint8)
        colours, rest = np.ascontiguousarray(np.moveaxis(table[:, raw[..., 0]], 0, -1)), raw[..., 1:]
    elif photometric == CMYK:
        light = 255 - raw[..., :4].astype(np.float32)
        colours = np.rint(light[..., :3] * light[..., 3:] / 255).astype(np.uint8)
        rest = raw[..., 4:]
    else:
        colours, rest = raw[..., :3], raw[..., 3:]
    if rest.shape[2] == 0:
        return np.ascontiguousarray(colours)
    opacity = rest[..., :1]
    if 1 in [int(extra) for extra in page.extrasamples]:  # the colours are multiplied by the opacity already
        laid: NDArray[np.int16] = np.minimum(colours.astype(np.int16) + (255 - opacity), np.int16(255))
        return laid.astype(np.uint8)
    return np.concatenate([colours, opacity], axis=2)


READER = TiffReader
