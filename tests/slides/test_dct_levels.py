"""Levels decoded at a part of their size: against Pillow's own scaled decoding, against averaged pixels, and in their place."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.slides.test_readers import pyramid, smooth_image, write
from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.errors import SlideError
from wsi_mil.features import encode_tiles
from wsi_mil.slides import open_slide
from wsi_mil.slides.dct_levels import DctLevelsReader
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue


def opened(path: Path, mpp: float | None = None) -> DctLevelsReader:
    slide = open_slide(path, reader="jpeg_tiles_dct", mpp=mpp)
    assert isinstance(slide, DctLevelsReader)
    return slide


@pytest.fixture(scope="module")
def aperio_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Levels 1, 4, 16, as a 40x scanner leaves them; details of 64 px, so that there are some at a twelfth of the size."""
    noise = np.random.default_rng(5).integers(0, 255, (24, 33, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(noise, (2112, 1536), interpolation=cv2.INTER_CUBIC), np.uint8)
    return write(
        tmp_path_factory.mktemp("dct") / "s.tiff",
        pyramid(image, (1, 4, 16)),
        compression="jpeg",
        compressionargs={"level": 90},
        tile=(128, 128),
    )


def test_levels_in_between_are_there_once(aperio_like: Path) -> None:
    with opened(aperio_like) as slide, open_slide(aperio_like) as plain:
        assert [round(d) for d in plain.info.level_downsamples] == [1, 4, 16]
        assert [round(d) for d in slide.info.level_downsamples] == [1, 2, 4, 8, 16, 32, 64, 128]
        assert slide._origins == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2), (2, 4), (2, 8)]
        assert slide.info.level_sizes_px[1] == (1056, 768)
        assert plain.info.reader == "jpeg_tiles"  # auto never takes it


def region_of_level(slide: DctLevelsReader, level: int) -> RGB:
    width, height = slide.info.level_sizes_px[level]
    return slide.read_region(0, 0, level, width, height)


def test_pixels_are_those_of_pillows_scaled_decoding(aperio_like: Path) -> None:
    with opened(aperio_like) as slide, tifffile.TiffFile(aperio_like) as tiff:
        for level, (origin, smaller) in enumerate(slide._origins):
            if smaller == 1:
                continue
            page = tiff.pages[origin]
            columns = -(-page.imagewidth // page.tilewidth)
            found = region_of_level(slide, level)
            for number in range(len(page.dataoffsets)):
                raw = tiff.filehandle
                raw.seek(page.dataoffsets[number])
                data = raw.read(page.databytecounts[number])
                tables = page.jpegtables[2:-2] if page.jpegtables else b""
                image = Image.open(io.BytesIO(data[:2] + tables + data[2:]))
                side = page.tilewidth // smaller
                image.draft("RGB", (side, side))
                expected = np.asarray(image.convert("RGB"))
                assert expected.shape == (side, side, 3)
                y, x = number // columns * side, number % columns * side
                part = found[y : y + side, x : x + side]
                if part.size == 0:  # of a tile at the edge nothing is left at this size
                    continue
                difference = np.abs(part.astype(int) - expected[: part.shape[0], : part.shape[1]])
                assert difference.max() <= 2


@pytest.mark.parametrize("level", [1, 3])
def test_pixels_are_near_averaged_ones_and_not_shifted(aperio_like: Path, level: int) -> None:
    with opened(aperio_like) as slide, open_slide(aperio_like) as plain:
        width, height = slide.info.level_sizes_px[level]
        whole = plain.read_region(0, 0, 0, plain.info.width_px, plain.info.height_px)
        expected = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(int)
        found = region_of_level(slide, level).astype(int)
        inner = (slice(4, -4), slice(4, -4))
        here = np.abs(found - expected)[inner].mean()
        assert here < 2
        for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            assert here < np.abs(np.roll(found, shift, (0, 1)) - expected)[inner].mean()


def test_a_real_aperio_slide(real_slide: Path) -> None:
    """RGB inside the JPEGs, tables in a tag: half scale against averaging, and tiles at 1 µm/px through the encoder."""
    with opened(real_slide) as slide, open_slide(real_slide) as plain:
        assert slide._origins[:4] == [(0, 1), (0, 2), (0, 4), (0, 8)]
        half = slide.read_region(400, 600, 1, 500, 400).astype(int)
        whole = plain.read_region(400, 600, 0, 1000, 800)
        expected = cv2.resize(whole, (500, 400), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(half - expected).mean() < 4
        assert np.abs(half.mean((0, 1)) - expected.mean((0, 1))).max() < 0.5
        spec, encoder = TileSpec(mpp=1.0, size_px=128), build_encoder(EncoderSpec(name="texture"), "cpu")
        rows = []
        for reader in (slide, plain):
            table = tile_slide(reader.info, find_tissue(reader, TissueSpec(method="whole")), spec)
            assert round(table.plan.downsample_x) == (2 if reader is slide else 1)
            rows.append(encode_tiles(reader, table, encoder).features.astype(float))
        cosine = (
            (rows[0] * rows[1]).sum(1) / np.linalg.norm(rows[0], axis=1) / np.linalg.norm(rows[1], axis=1)
        )
        assert cosine.min() > 0.95
        assert np.median(cosine) > 0.99


def test_tiles_that_the_file_leaves_out_come_from_the_library(tmp_path: Path) -> None:
    tiles = iter([b""] * 12)
    path = tmp_path / "sparse.tiff"
    options = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg",
        "resolution": (10_000, 10_000),
        "resolutionunit": "CENTIMETER",
    }
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(tiles, shape=(768, 1024, 3), dtype=np.uint8, metadata=None, **options)
    with opened(path) as slide, open_slide(path, reader="openslide") as library:
        expected = library.read_region(512, 256, 0, 100, 80)
        assert (slide.read_region(512, 256, 1, 50, 40) == expected[0, 0]).all()


def test_other_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.tiff", pyramid(smooth_image(600, 400), (1,)))
    with pytest.raises(SlideError, match=r"is compressed by NONE, jpeg_tiles reads JPEG"):
        open_slide(path, reader="jpeg_tiles_dct")
