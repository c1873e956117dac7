"""Pixels of good slides by every reader, against a decoder that no reader uses: Pillow (libtiff, libjpeg)."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import generate_frames

from tests.slides.dicom_files import TILE_PX, write_dicom
from tests.slides.test_readers import LEVELS, write
from wsi_mil.contracts.arrays import RGB
from wsi_mil.slides import open_slide

APERIO = "Aperio Image Library v11.2.1\r\n448x320 (64x64) JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"
TILED = ("openslide", "tiffslide", "tiff", "auto")
JPEG = ("jpeg_tiles", *TILED)


def of(**options: Any) -> Callable[[Path], Path]:
    return lambda folder: write(folder / "slide.tiff", LEVELS, **options)


def aperio(folder: Path) -> Path:
    """RGB JPEG without a JFIF header, as Aperio scanners store it."""
    how = {"compression": "jpeg", "compressionargs": {"level": 90, "outcolorspace": "rgb"}}
    return write(folder / "slide.svs", LEVELS, description=APERIO.encode(), **how)


def dicom(jpeg: bool) -> Callable[[Path], Path]:
    def write_series(folder: Path) -> Path:
        files = [write_dicom(folder / f"{n}.dcm", level, n, jpeg) for n, level in enumerate(LEVELS)]
        return files[0]

    return write_series


def in_form(**form: Any) -> Callable[[Path], Path]:
    """Return what writes a pyramid of another byte order or size of offsets."""

    def write_form(folder: Path) -> Path:
        options = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "resolutionunit": "CENTIMETER"}
        with tifffile.TiffWriter(folder / "slide.tiff", **form) as tiff:
            for number, level in enumerate(LEVELS):
                tiff.write(level, resolution=(20000, 20000), subfiletype=int(number > 0), **options)
        return folder / "slide.tiff"

    return write_form


STRIPS = {"tile": None, "rowsperstrip": 40}
KINDS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], int]] = {
    "JPEG tiles": (of(compression="jpeg", compressionargs={"level": 90}), JPEG, 1),
    "JPEG tiles of an SVS": (aperio, ("jpeg_tiles", "openslide", "tiff", "auto"), 1),
    "JPEG strips": (of(compression="jpeg", compressionargs={"level": 90}, **STRIPS), ("tiff", "auto"), 1),
    "tiles without compression": (of(), TILED, 0),
    "tiles of 32 x 48 px": (of(tile=(48, 32), compression="zlib"), TILED, 0),
    "deflate tiles": (of(compression="zlib"), TILED, 0),
    "deflate tiles of differences": (of(compression="zlib", predictor=True), TILED, 0),
    "LZW tiles of differences": (of(compression="lzw", predictor=True), TILED, 0),
    "deflate strips": (of(compression="zlib", **STRIPS), ("tiff", "auto"), 0),
    "LZW strips": (of(compression="lzw", **STRIPS), ("tiff", "auto"), 0),
    "LZW strips of differences": (of(compression="lzw", predictor=True, **STRIPS), ("tiff", "auto"), 0),
    "one strip": (of(tile=None, rowsperstrip=320), ("tiff", "auto"), 0),
    "largest byte first": (in_form(byteorder=">"), ("tiffslide", "tiff", "auto"), 0),
    "BigTIFF": (in_form(bigtiff=True), TILED, 0),
    "DICOM": (dicom(False), ("openslide", "auto"), 0),
    "DICOM of JPEG": (dicom(True), ("openslide", "auto"), 1),
}


def by_pillow(path: Path, level: int) -> RGB:
    """Return a level as Pillow decodes it; of DICOM, tile by tile."""
    if path.suffix != ".dcm":
        with Image.open(path) as image:
            image.seek(level)
            return np.asarray(image.convert("RGB"))
    data = dcmread(path.with_name(f"{level}.dcm"))
    shape = data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns, 3
    if not data.file_meta.TransferSyntaxUID.is_encapsulated:
        tiles = list(np.frombuffer(data.PixelData, np.uint8).reshape(-1, TILE_PX, TILE_PX, 3))
    else:
        frames = generate_frames(data.PixelData, number_of_frames=data.NumberOfFrames)
        tiles = [np.asarray(Image.open(io.BytesIO(frame))) for frame in frames]
    columns = -(-shape[1] // TILE_PX)
    rows = [np.concatenate(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)[: shape[0], : shape[1]]


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_an_independent_decoder(tmp_path: Path, kind: str) -> None:
    """Level 0 and a reduced level: whole, and a region across tiles and strips. JPEG may be rounded."""
    make, readers, tolerance = KINDS[kind]
    path = make(tmp_path)
    for level in (0, 1):
        truth = by_pillow(path, level).astype(int)
        assert truth.shape == LEVELS[level].shape
        loss = np.abs(truth - LEVELS[level])
        assert loss.max() == 0 if tolerance == 0 else loss.mean() < 4  # the decoder is right itself
        for reader in readers:
            with open_slide(path, reader=reader) as slide:
                assert slide.info.level_sizes_px[:2] == ((448, 320), (224, 160))
                height, width = truth.shape[:2]
                whole = slide.read_region(0, 0, level, width, height).astype(int)
                part = slide.read_region(37 << level, 45 << level, level, 101, 77).astype(int)
            assert np.abs(whole - truth).max() <= tolerance, (reader, level)
            assert np.abs(part - truth[45:122, 37:138]).max() <= tolerance, (reader, level)
            assert slide.info.mpp == 0.5
