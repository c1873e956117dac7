"""The reader jpeg_tiles against OpenSlide and against the pixels that tifffile decodes."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from tests.slides.test_readers import LEVELS, pyramid, smooth_image, write
from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides import SlideReader, open_slide
from wsi_mil.slides.readers.jpeg_tiles import CACHE_BYTES, JpegTilesReader, _Cache
from wsi_mil.testing.readers import ReaderSuite

JPEG = {"compression": "jpeg", "compressionargs": {"level": 90}}


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("jpeg") / "slide.tiff", LEVELS, **JPEG)


def without_tile(path: Path, number: int) -> Path:
    """Write a slide whose first level has no data for one of its tiles."""
    write(path, LEVELS, **JPEG)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        offsets = list(tiff.pages[0].dataoffsets)
        counts[number] = offsets[number] = 0
        tiff.pages[0].tags[325].overwrite(counts)
        tiff.pages[0].tags[324].overwrite(offsets)
    return path


class TestJpegTiles(ReaderSuite):
    """The suite of all readers; tifffile decodes the true pixels."""

    @pytest.fixture(autouse=True)
    def _take(self, jpeg: Path) -> None:
        self.path = jpeg

    def open(self) -> SlideReader:
        return open_slide(self.path, reader="jpeg_tiles")

    @pytest.fixture(autouse=True)
    def _take_sparse(self, tmp_path: Path) -> None:
        self.sparse = tmp_path / "sparse.tiff"

    def open_transparent(self) -> SlideReader:
        return open_slide(without_tile(self.sparse, 0), reader="jpeg_tiles")

    def truth(self) -> list[RGB]:
        return [tifffile.imread(self.path, key=level) for level in range(3)]


class OffByOneTile(JpegTilesReader):
    """Wrong on purpose: reads the tile before the one that is asked for."""

    def _decode(self, level: int, number: int) -> RGB:
        return super()._decode(level, max(number - 1, 0))


def test_the_suite_fails_on_a_wrong_tile(jpeg: Path) -> None:
    class Wrong(TestJpegTiles):
        def open(self) -> SlideReader:
            return OffByOneTile(str(jpeg), slide_id="wrong")

    suite = Wrong()
    suite.path = jpeg
    with pytest.raises(AssertionError):
        suite.test_region_at_level_0()


def largest_difference(path: Path, draws: int = 60, mpp: float | None = None) -> int:
    """Return the largest difference of both readers over random regions, also across the edge."""
    rng = np.random.default_rng(8)
    worst = 0
    with (
        open_slide(path, reader="openslide", mpp=mpp) as slow,
        open_slide(path, reader="jpeg_tiles", mpp=mpp) as fast,
    ):
        info = slow.info
        assert isinstance(fast, JpegTilesReader)
        for draw in range(draws):
            level = int(rng.integers(len(info.level_sizes_px)))
            scale = round(info.level_downsamples[level])
            tiled = fast._levels[level]
            width, height = int(rng.integers(1, 150)), int(rng.integers(1, 130))
            x, y = (int(rng.integers(-20, size)) for size in info.level_sizes_px[level])
            if draw % 5 == 0:
                width, height = tiled.tile_width_px, tiled.tile_height_px
                x, y = x // width * width, y // height * height
            regions = [
                reader.read_region(x * scale, y * scale, level, width, height) for reader in (slow, fast)
            ]
            worst = max(worst, int(np.abs(regions[0].astype(int) - regions[1].astype(int)).max()))
    return worst


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("tile", [(64, 64), (48, 112)])
def test_pixels_of_openslide(tmp_path: Path, subsampling: str, tile: tuple[int, int]) -> None:
    options = {"level": 85, "subsampling": subsampling}
    path = write(tmp_path / "s.tiff", LEVELS, compression="jpeg", compressionargs=options, tile=tile)
    assert largest_difference(path) <= 2


def test_pixels_of_openslide_on_a_real_slide(real_slide: Path) -> None:
    """Aperio: RGB in the JPEGs, tables of their own tag, tiles of 240 px."""
    with open_slide(real_slide) as slide:
        assert slide.info.reader == "jpeg_tiles"
    assert largest_difference(real_slide) <= 2


def test_a_level_between_whole_numbers_keeps_its_own_pixels(tmp_path: Path) -> None:
    """OpenSlide interpolates there (ADR 0009); this reader gives the same pixels in every region."""
    path = write(tmp_path / "odd.tiff", pyramid(smooth_image(1500, 1100), (1, 2.5)), **JPEG)
    truth = tifffile.imread(path, key=1)
    with open_slide(path) as slide:
        assert slide.info.reader == "jpeg_tiles"
        np.testing.assert_array_equal(slide.read_region(640, 333, 1, 120, 90), truth[133:223, 256:376])
        np.testing.assert_array_equal(slide.read_region(690, 333, 1, 100, 90), truth[133:223, 276:376])


def test_auto_takes_openslide_for_other_compression(tmp_path: Path) -> None:
    lossless = write(tmp_path / "slide.tiff", LEVELS)
    with open_slide(lossless) as slide:
        assert slide.info.reader == "openslide"
    with pytest.raises(
        SlideError, match=r"'slide': its pixels are in tiles, compressed by NONE; jpeg_tiles reads JPEG"
    ):
        open_slide(lossless, reader="jpeg_tiles")


def test_the_key_switches_it_off(jpeg: Path) -> None:
    with open_slide(jpeg, reader="openslide") as slide:
        assert slide.info.reader == "openslide"


def test_strips_and_other_formats_are_refused_with_the_reason(tmp_path: Path, data_folder: Path) -> None:
    fixtures = data_folder / "wsi" / "openslide_fixtures"
    if not fixtures.is_dir():
        pytest.skip("no openslide_fixtures")
    with pytest.raises(SlideError, match="format 'dicom'"):
        open_slide(fixtures / "boxes_0.dcm", mpp=0.5, reader="jpeg_tiles")


def test_every_tile_is_decoded_once(jpeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    original = JpegTilesReader._decode
    monkeypatch.setattr(
        JpegTilesReader,
        "_decode",
        lambda self, level, number: (decoded.append((level, number)), original(self, level, number))[1],
    )
    with open_slide(jpeg) as slide:
        for y in range(10, 250, 40):
            for x in range(10, 380, 40):
                slide.read_region(x, y, 0, 64, 64)
    assert len(decoded) == len(set(decoded)) == 7 * 5


def test_the_cache_keeps_to_its_limit() -> None:
    cache = _Cache(1000)
    for number in range(50):
        cache.give_back(cache.put((0, 0, number), np.full((1, 100, 3), number, np.uint8)))
    assert [number for number in range(50) if cache.borrow((0, 0, number)) is not None] == [47, 48, 49]
    assert (
        CACHE_BYTES >= 2 * 400 * 256 * 256 * 3 // 2
    )  # two rows of a slide of 100,000 px, half of them tissue


def test_memory_is_used_again_only_when_no_caller_uses_it() -> None:
    cache = _Cache(300)
    held = cache.put((0, 0, 0), np.full((1, 100, 3), 7, np.uint8))
    cache.give_back(cache.put((0, 0, 1), np.full((1, 100, 3), 8, np.uint8)))
    assert cache.memory((1, 100, 3)) is None  # `held` is dropped, and still used
    cache.give_back(cache.put((0, 0, 2), np.full((1, 100, 3), 9, np.uint8)))
    assert cache.memory((1, 50, 3)) is None
    again = cache.memory((1, 100, 3))
    assert again is not None
    assert (again == 8).all()
    assert (held.pixels == 7).all()
    cache.give_back(held)
    assert cache.memory((1, 100, 3)) is held.pixels


def test_threads_share_the_cache_and_read_the_same_pixels(
    jpeg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache holds only a few tiles, so that their memory is used again all the time."""
    monkeypatch.setattr("wsi_mil.slides.readers.jpeg_tiles.CACHE_BYTES", 4 * 64 * 64 * 3)
    truth = tifffile.imread(jpeg, key=0)
    places = np.random.default_rng(1).integers(0, [384, 256], (400, 2))
    with open_slide(jpeg) as slide, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda xy: slide.read_region(int(xy[0]), int(xy[1]), 0, 64, 64), places))
    for (x, y), region in zip(places, found, strict=True):
        np.testing.assert_array_equal(region, truth[y : y + 64, x : x + 64])


def test_a_damaged_tile_is_an_error_that_names_the_place(jpeg: Path, tmp_path: Path) -> None:
    data = bytearray(jpeg.read_bytes())
    with tifffile.TiffFile(jpeg) as tiff:
        offset, count = tiff.pages[0].dataoffsets[9], tiff.pages[0].databytecounts[9]
    data[offset : offset + count] = bytes(count)
    path = tmp_path / "damaged.tiff"
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.info.reader == "jpeg_tiles"
        with pytest.raises(SlideError, match=r"'damaged'.*level 0, x 128, y 64, 64 x 64"):
            slide.read_region(128, 64, 0, 64, 64)
        np.testing.assert_array_equal(
            slide.read_region(0, 0, 0, 64, 64), tifffile.imread(jpeg, key=0)[:64, :64]
        )


def test_a_file_cut_short_is_an_error_for_the_tiles_that_it_lost(jpeg: Path, tmp_path: Path) -> None:
    with open_slide(jpeg) as whole:
        assert isinstance(whole, JpegTilesReader)
        end = int(whole._levels[0].offsets[-1] + whole._levels[0].byte_counts[-1])
    path = tmp_path / "short.tiff"
    path.write_bytes(jpeg.read_bytes())
    with closing(open_slide(path)) as slide:
        with path.open("rb+") as file:
            file.truncate(end - 10)
        with pytest.raises(SlideError, match=r"'short'.*the file ends inside tile 34"):
            slide.read_region(384, 256, 0, 64, 64)


def test_a_tile_that_states_more_bytes_than_the_file_has_takes_no_memory(jpeg: Path) -> None:
    with open_slide(jpeg) as slide:
        assert isinstance(slide, JpegTilesReader)
        slide._levels[0].byte_counts[34] = 1 << 40
        with pytest.raises(SlideError, match="the file ends inside tile 34"):
            slide.read_region(384, 256, 0, 64, 64)


def test_absent_tiles_are_shown_as_openslide_shows_them(tmp_path: Path) -> None:
    """Aperio scanners store no tiles of glass; OpenSlide shows the next level or the background there."""
    path = without_tile(tmp_path / "sparse.tiff", 8)
    with open_slide(path, reader="openslide") as slow, open_slide(path, reader="jpeg_tiles") as fast:
        for x, y in ((64, 64), (40, 50), (300, 200)):
            np.testing.assert_array_equal(
                slow.read_region(x, y, 0, 64, 64), fast.read_region(x, y, 0, 64, 64)
            )


def test_it_pickles_and_closes(jpeg: Path) -> None:
    with open_slide(jpeg, mpp=0.4) as slide:
        with pickle.loads(pickle.dumps(slide)) as again:
            assert again.info == slide.info
            assert isinstance(again, JpegTilesReader)
        again.close()  # twice does nothing
        with pytest.raises(SlideError, match="closed"):
            again.read_region(0, 0, 0, 4, 4)
        assert slide.read_region(0, 0, 0, 4, 4).shape == (4, 4, 3)


def test_the_decoder_is_libjpeg_turbo_itself() -> None:
    """The decoder that makes this reader faster than OpenSlide."""
    assert "turbo" in imagecodecs.jpeg8_version()
