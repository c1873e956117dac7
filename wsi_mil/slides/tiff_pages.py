"""The images of a TIFF file: size, pixel format and purpose of each, without decoding a pixel."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil import limits
from wsi_mil.contracts.record import Record
from wsi_mil.errors import SlideError
from wsi_mil.slides import tiff_headers
from wsi_mil.slides.tiff_headers import TIFF_STARTS

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
"""Values of the tag PhotometricInterpretation."""
JPEG = 7
"""Value of the tag Compression."""
MACRO = 8
"""Bit of the tag NewSubfileType by which Aperio marks the photograph of the glass slide."""
NDPI_FLUORESCENCE = 65434
"""Tag of Hamamatsu that names the filter of a fluorescence image."""
ASSOCIATED = re.compile(
    r"^[^a-z0-9\n]*(label|macro|thumbnail|overview|barcode)(?![a-z])"
    r"|<imagetype>\s*(label|macro|thumbnail|overview)\s*</imagetype>"
    r'|"name":\s*"(label|macro|thumbnail|overview)"',
    re.IGNORECASE | re.MULTILINE,
)
"""How scanners and viewers name images that show the glass slide, not the tissue at full size."""


@dataclass(frozen=True)
class TiffPage(Record):
    """One image of a TIFF file.

    place: numbers that lead to it; (2,) is the third image, (2, 0) the first below it (SubIFD).
    tile_px: (width, height) of its tiles, None for strips. segment_px: pixels of its largest tile or strip.
    compression, photometric, sample_format, orientation: values of the TIFF tags. opacity: 0 if it has none,
    1 if the colours are multiplied by it already, 2 if they are not. reduced: marked as a smaller copy of
    another image. associated: label, macro or thumbnail, else "". fluorescence: name of the filter, or "".
    resolution: the tags XResolution and YResolution as numbers, and ResolutionUnit, as text; () without.
    description: the tag ImageDescription.
    """

    place: tuple[int, ...]
    size_px: tuple[int, int]
    tile_px: tuple[int, int] | None
    segment_px: int
    compression: int
    photometric: int
    bits: int
    sample_format: int
    samples: int
    opacity: int
    planar: bool
    orientation: int
    reduced: bool
    associated: str
    fluorescence: str
    resolution: tuple[str, ...]
    description: str

    @property
    def area_px(self) -> int:
        """Width times height."""
        return self.size_px[0] * self.size_px[1]

    @property
    def pixels(self) -> tuple[int, ...]:
        """What the pixel format of two images of one pyramid must have in common."""
        return self.bits, self.sample_format, self.samples, int(self.planar)


@dataclass(frozen=True, eq=False)
class JpegTiles:
    """Where the JPEG tiles of an image lie in its file, row by row, and the tables that they share."""

    offsets: NDArray[np.int64]
    byte_counts: NDArray[np.int64]
    tables: bytes | None


@dataclass(frozen=True, eq=False)
class TiffContent:
    """The images of a file, and by their places the tiles of those that are compressed by JPEG."""

    pages: tuple[TiffPage, ...] = ()
    jpeg_tiles: Mapping[tuple[int, ...], JpegTiles] = field(default_factory=dict)


def tiff_content(path: str) -> TiffContent:
    """Return what a file holds; no images for a file that is no TIFF.

    Raises SlideError if the file is a TIFF that cannot be read: broken, or images that point at each other.
    """
    try:
        state = os.stat(path)
        return _content(path, state.st_size, state.st_mtime_ns, state.st_ino)
    except OSError as error:
        raise SlideError(f"{path} cannot be read ({error.strerror or error})") from error


@lru_cache(maxsize=4)
def _content(path: str, _size: int, _mtime: int, _inode: int) -> TiffContent:
    """The readers that are tried in turn, and the threads of a reader, share one inspection of a file."""
    if os.path.isdir(path):
        return TiffContent()
    with open(path, "rb") as file:
        if file.read(4) not in TIFF_STARTS:
            return TiffContent()
        tiff_headers.check_headers(file, path)
    import tifffile

    # Our own error says what tifffile cannot read; without this line tifffile logs it again on every worker.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(path) as tiff:
            walked = list(_walk(tiff, path))
            tiles = {place: _jpeg_tiles(page) for place, page in walked if _has_jpeg_tiles(page)}
            return TiffContent(tuple(_describe(page, place) for place, page in walked), tiles)
    except (SlideError, OSError):
        raise
    except Exception as error:
        raise SlideError(
            f"{path} is a damaged TIFF file ({type(error).__name__}: {error}): copy it again"
        ) from error


def pages_of(tiff: Any, path: str) -> tuple[TiffPage, ...]:
    """Return the images of an open `tifffile.TiffFile`.

    Raises SlideError, and whatever tifffile raises.
    """
    return tuple(_describe(page, place) for place, page in _walk(tiff, path))


def _walk(tiff: Any, path: str) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield the place and page of each image. An image that appears twice is an error: it would never end."""
    seen: set[int] = set()

    def once(page: Any, place: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
        if page.offset in seen:
            raise SlideError(
                f"{path} is a damaged TIFF file: its images point at each other (image {place} is one that "
                "came before)"
            )
        limits.IMAGES.check(len(seen) + 1, path, SlideError)
        seen.add(page.offset)
        return place, page

    number = 0
    while True:
        try:
            page = tiff.pages[number]
        except IndexError:
            return
        yield once(page, (number,))
        subifds = page.subifds or ()
        limits.LEVELS.check(len(subifds), f"{path}, image {number + 1}", SlideError)
        for below in range(len(subifds)):
            yield once(page.pages[below], (number, below))
        number += 1


def _has_jpeg_tiles(page: Any) -> bool:
    return bool(page.is_tiled) and int(page.compression) == JPEG


def _jpeg_tiles(page: Any) -> JpegTiles:
    offsets, counts = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
    return JpegTiles(offsets, counts, page.jpegtables)


def _describe(page: Any, place: tuple[int, ...]) -> TiffPage:
    width, height = int(page.imagewidth), int(page.imagelength)
    tile = (int(page.tilewidth), int(page.tilelength)) if page.is_tiled else None
    rows = min(int(page.rowsperstrip or height), height)
    texts = [str(page.description or "")]
    texts += [str(page.tags[code].value) for code in (269, 285) if code in page.tags]
    named = [found for text in texts for found in [ASSOCIATED.search(text[:4096])] if found]
    old_kind = page.tags[255].value if 255 in page.tags else 0  # SubfileType: 2 is a reduced image
    macro = "macro" if int(page.subfiletype) & MACRO else ""
    fluorescence = page.tags[NDPI_FLUORESCENCE].value if NDPI_FLUORESCENCE in page.tags else ""
    return TiffPage(
        place=place,
        size_px=(width, height),
        tile_px=tile,
        segment_px=tile[0] * tile[1] if tile else width * rows,
        compression=int(page.compression),
        photometric=int(page.photometric),
        bits=_largest(page.bitspersample),
        sample_format=_largest(page.sampleformat),
        samples=int(page.samplesperpixel),
        opacity=next((int(extra) for extra in page.extrasamples if int(extra) in (1, 2)), 0),
        planar=int(page.planarconfig) == 2 and int(page.samplesperpixel) > 1,
        orientation=int(page.tags[274].value) if 274 in page.tags else 1,
        reduced=bool(int(page.subfiletype) & 1) or old_kind == 2,
        associated=next((group.lower() for m in named for group in m.groups() if group), macro),
        fluorescence=str(fluorescence).strip(),
        resolution=_resolution(page),
        description=str(page.description or ""),
    )


def _resolution(page: Any) -> tuple[str, ...]:
    if any(code not in page.tags for code in (282, 283, 296)):
        return ()
    x, y, unit = (page.tags[code].value for code in (282, 283, 296))
    if not all(isinstance(value, tuple) and len(value) == 2 for value in (x, y)):
        return ()
    return (*(str(above / below) if below else "0" for above, below in (x, y)), str(int(unit)))


def _largest(value: Any) -> int:
    return max((int(v) for v in value), default=1) if isinstance(value, (tuple, list)) else int(value)
