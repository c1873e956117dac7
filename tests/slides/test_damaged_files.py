"""Whatever happens to the bytes of a slide, only our own error comes out, and it names the slide.

tests/damage.py says how many inputs are tried.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.damage import inputs, show
from tests.slides.dicom_files import write_dicom
from tests.slides.test_readers import pyramid, smooth_image, write
from wsi_mil.errors import SlideError
from wsi_mil.slides import find_slides, open_slide

LEVELS = pyramid(smooth_image(288, 192), (1, 2, 4))
OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels SizeX="288" SizeY="192" '
    'PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeXUnit="µm"/></Image></OME>'
)


def ome(path: Path) -> Path:
    options = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "compression": "zlib"}
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(LEVELS):
            text = {"description": OME.encode(), "subifds": 2} if number == 0 else {"subfiletype": 1}
            tiff.write(level, **options, **text)
    return path


def dicom(path: Path, jpeg: bool) -> Path:
    """A series of two levels. The second file stays whole."""
    write_dicom(path.with_name("level_1.dcm"), LEVELS[1], 1, jpeg)
    return write_dicom(path.with_suffix(".dcm"), LEVELS[0], 0, jpeg)


FORMS: dict[str, Callable[[Path], Path]] = {
    "jpeg": lambda path: write(path, LEVELS, compression="jpeg", compressionargs={"level": 80}),
    "lossless": lambda path: write(path, LEVELS, compression="zlib", predictor=True),
    "strips": lambda path: write(path, LEVELS[:1], tile=None, rowsperstrip=40, compression="lzw"),
    "planes": lambda path: write(
        path, [np.ascontiguousarray(np.moveaxis(LEVELS[0], 2, 0))], planarconfig="separate", tile=None
    ),
    "palette": lambda path: write(
        path,
        [LEVELS[0][..., 0]],
        photometric="palette",
        colormap=np.arange(768, dtype=np.uint16).reshape(3, 256),
    ),
    "inks": lambda path: write(
        path, [np.dstack([LEVELS[0], LEVELS[0][..., :1]])], photometric="separated", compression="zlib"
    ),
    "ome": ome,
    "DICOM": lambda path: dicom(path, jpeg=False),
    "DICOM of JPEG": lambda path: dicom(path, jpeg=True),
}


def headers(path: Path) -> np.ndarray:
    """Return the positions of the bytes in which a file describes itself."""
    if path.suffix == ".dcm":  # all that comes before the pixels
        return np.arange(path.read_bytes().index(b"\xe0\x7f\x10\x00") + 64)
    places = [np.arange(16)]
    with tifffile.TiffFile(path) as tiff:
        for page in [*tiff.pages, *(tiff.pages[0].pages or [])]:
            places.append(np.arange(page.offset, page.offset + 12 * len(page.tags) + 6))
            for tag in page.tags:
                length = min(int(tag.valuebytecount), 256)
                places.append(np.arange(tag.valueoffset, tag.valueoffset + length))
    return np.unique(np.concatenate(places))


def damage(data: bytes, where: np.ndarray, rng: np.random.Generator) -> bytes:
    """Return a file with flipped, overwritten or missing bytes, most of them in its headers."""
    kind, broken = rng.integers(5), bytearray(data)
    if kind == 0:
        return data[: int(rng.integers(len(data)))]
    places = where[where < len(data)] if kind < 4 else np.arange(len(data))
    for place in rng.choice(places, int(rng.integers(1, 6))):
        if kind == 1:
            broken[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            broken[place : place + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\0\0\0"])[:4].ljust(
                4, b"\0"
            )
        else:
            broken[place] = int(rng.integers(256))
    return bytes(broken[: len(data)])


def read_a_little(path: Path, reader: str) -> str:
    """Open a slide and read its corners; return what came out: 'read' or 'refused'."""
    try:
        with open_slide(path, reader=reader, mpp=0.5) as slide:
            width, height = slide.info.level_sizes_px[0]
            for level in (0, len(slide.info.level_sizes_px) - 1):
                for x, y in ((0, 0), (max(width - 40, 0), max(height - 40, 0)), (width // 2, height // 2)):
                    assert slide.read_region(x, y, level, 48, 40).shape == (40, 48, 3)
    except SlideError as error:
        return "refused" if path.stem in str(error) else f"does not name the slide: {error}"
    return "read"


@pytest.mark.parametrize("form", FORMS)
def test_only_our_own_error_comes_out(form: str, tmp_path: Path) -> None:
    whole = FORMS[form](tmp_path / "whole.tiff")
    assert read_a_little(whole, "auto") == "read"
    data, where = whole.read_bytes(), headers(whole)
    whole.unlink()
    readers = (
        ("auto", "openslide")
        if whole.suffix == ".dcm"
        else ("auto", "auto", "tiff", "openslide", "tiffslide")
    )
    rng = np.random.default_rng(19)
    outcomes = []
    for number in range(inputs("slides", len(FORMS))):
        path = tmp_path / f"damaged_slide{whole.suffix}"
        path.write_bytes(damage(data, where, rng))
        assert len(find_slides(tmp_path)) in (1, 2)  # 2: the damage has taken it out of its series
        outcomes.append(read_a_little(path, readers[number % len(readers)]))
    show("slides", form, outcomes)
    assert set(outcomes) == {"refused", "read"}
    assert min(outcomes.count("refused"), outcomes.count("read")) > len(outcomes) / 12
