"""Check where the frames of DICOM files lie before OpenSlide reads them: a wrong place ends its process."""

import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wsi_mil import limits
from wsi_mil.errors import SlideError
from wsi_mil.logs import logger
from wsi_mil.slides.inspection import PixelError

PREFIX, PREFIX_AT = b"DICM", 128
PIXEL_DATA, ITEM = b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0"
OF_UNKNOWN_LENGTH = b"\xff\xff\xff\xff"
TAGS = [
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "NumberOfFrames",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "ExtendedOffsetTable",
]


def check_series(path: str, slide_id: str) -> None:
    """Raise PixelError if a DICOM file, or another one of its series, states frames outside the file.

    OpenSlide reads all files of the series in a folder. A file that is no DICOM passes.
    """
    problem = _inspected(path)[1]
    for other in series_files(path):
        found = _inspected(other)[1]
        if found:
            path, problem = other, found
    if problem:
        raise PixelError(f"slide {slide_id!r}: the DICOM file {path} {problem}: copy it again")


def series_files(path: str) -> list[str]:
    """Return the files of the series of a DICOM file, which lie beside it; none for another file."""
    series = _inspected(path)[0]
    others = sorted(str(other) for other in Path(path).parent.iterdir() if other.is_file()) if series else []
    return [other for other in others if _inspected(other)[0] == series]


def _inspected(path: str) -> tuple[str, str]:
    """Return the series of a DICOM file, "" without; and what is wrong with it, "" where nothing is."""
    try:
        state = os.stat(path)
        return _inspect(path, state.st_size, state.st_mtime_ns, state.st_ino)
    except OSError:
        return "", ""


@lru_cache(maxsize=1 << 16)
def _inspect(path: str, size: int, _mtime: int, _inode: int) -> tuple[str, str]:
    import pydicom

    with open(path, "rb") as file:
        if file.read(PREFIX_AT + len(PREFIX))[PREFIX_AT:] != PREFIX:
            return "", ""
        file.seek(0)
        try:
            with warnings.catch_warnings():  # of values against the standard, which do no harm here
                warnings.simplefilter("ignore")
                data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS)
                series = str(data.get("SeriesInstanceUID") or "")
                return series, _problem(data, file, size)
        except Exception as error:  # pydicom raises what struct, codecs and numbers raise
            logger().debug("%s", path, exc_info=True)
            return "", f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:120]})"


def _check_size(data: Any) -> None:
    """Raise SlideError for an image or frames that exceed a limit."""

    def number(name: str) -> int:
        return int(data.get(name) or 0)

    where, frame_px = "states too much", number("Rows") * number("Columns")
    width, height = number("TotalPixelMatrixColumns"), number("TotalPixelMatrixRows")
    limits.SIDE_PX.check(max(width, height), where, SlideError)
    limits.IMAGE_PX.check(width * height, where, SlideError)
    limits.TILE_PX.check(frame_px, where, SlideError)
    sample_bits = number("SamplesPerPixel") * number("BitsAllocated")
    limits.TILE_BYTES.check(frame_px * sample_bits // 8, where, SlideError)
    limits.FRAMES.check(number("NumberOfFrames"), where, SlideError)


def _problem(data: Any, file: BinaryIO, size: int) -> str:
    """Return why the frames cannot be where the file states them; `file` stands at its pixels."""
    try:
        _check_size(data)
    except SlideError as error:
        return str(error)
    head = file.read(12)
    if head[:4] != PIXEL_DATA:
        return "holds no pixels"
    if head[8:] != OF_UNKNOWN_LENGTH:
        return ""
    table = file.read(8)
    length = int.from_bytes(table[4:], "little")
    if table[:4] != ITEM or length % 4 or file.tell() + length + 8 > size:
        return "has no readable table of its frames"
    places = np.frombuffer(file.read(length), "<u4").astype(np.int64)
    if not len(places):
        places = np.frombuffer(data.get("ExtendedOffsetTable") or b"", "<u8").astype(np.int64)
    first = file.tell()
    if len(places) and (places[0] != 0 or (np.diff(places) < 8).any() or first + places[-1] + 8 > size):
        return f"states frames outside its {size} bytes, or in no order"
    return ""
