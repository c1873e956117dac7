"""Each reader passes the suite; readers are chosen, found and refused by name; scaled reading."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import Bounds
from wsi_mil.errors import ConfigError, ScaleError, SlideError
from wsi_mil.slides import ArrayReader, SlideReader, open_slide, read_scaled, readers
from wsi_mil.slides.files import find_bounds
from wsi_mil.slides.opening import READERS
from wsi_mil.testing.readers import ReaderSuite


def smooth_image(width: int = 448, height: int = 320) -> RGB:
    noise = np.random.default_rng(5).integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def pyramid(image: RGB, downsamples: tuple[float, ...]) -> list[RGB]:
    sizes = [(int(image.shape[1] / d), int(image.shape[0] / d)) for d in downsamples]
    return [
        image if d == 1 else cv2.resize(image, s, interpolation=cv2.INTER_AREA)
        for d, s in zip(downsamples, sizes, strict=True)
    ]


def write(path: Path, levels: list[RGB], **options: object) -> Path:
    settings = {
        "tile": (64, 64),
        "photometric": "rgb",
        "metadata": None,
        "resolutionunit": "CENTIMETER",
    } | options
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            tiff.write(level, subfiletype=int(number > 0), resolution=(20000, 20000), **settings)
    return path


LEVELS = pyramid(smooth_image(), (1, 2, 4))


class FileSuite(ReaderSuite):
    reader = ""

    @pytest.fixture(autouse=True)
    def _take(self, lossless: Path, transparent: Path) -> None:
        self.path, self.transparent = lossless, transparent

    def open(self) -> SlideReader:
        return open_slide(self.path, reader=self.reader)

    def open_transparent(self) -> SlideReader:
        return open_slide(self.transparent, reader=self.reader)

    def truth(self) -> list[RGB]:
        return LEVELS


class TestOpenSlide(FileSuite):
    reader = "openslide"


class TestTiffSlide(FileSuite):
    reader = "tiffslide"


class TestArray(ReaderSuite):
    def open(self) -> SlideReader:
        return ArrayReader(smooth_image(), mpp=0.5, downsamples=(1, 2, 4))

    def truth(self) -> list[RGB]:
        return LEVELS


def test_half_transparent_pixels_are_mixed_with_white(transparent: Path) -> None:
    """The same by both libraries: (128 x pixel + 127 x white) / 255."""
    expected = np.rint(LEVELS[0][64:72, :8] * (128 / 255) + 255 * (127 / 255))
    for reader in ("openslide", "tiffslide"):
        with open_slide(transparent, reader=reader) as slide:
            assert np.abs(slide.read_region(0, 64, 0, 8, 8) - expected).max() <= 1


def test_both_libraries_agree_on_jpeg(tmp_path: Path) -> None:
    path = write(tmp_path / "j.tiff", LEVELS, compression="jpeg", compressionargs={"level": 90})
    with open_slide(path, reader="openslide") as one, open_slide(path, reader="tiffslide") as two:
        assert one.info.level_sizes_px == two.info.level_sizes_px
        for level in range(3):
            a, b = (slide.read_region(60, 24, level, 70, 50).astype(int) for slide in (one, two))
            assert np.abs(a - b).max() <= 2


def test_both_libraries_agree_on_a_real_slide(real_slide: Path) -> None:
    with open_slide(real_slide, reader="openslide") as one, open_slide(real_slide, reader="tiffslide") as two:
        assert one.info.mpp_x == two.info.mpp_x == 0.499
        assert (one.info.width_px, one.info.height_px) == (2220, 2967)
        a, b = (slide.read_region(1100, 1400, 0, 400, 300).astype(int) for slide in (one, two))
        assert np.abs(a - b).max() <= 2
        assert a.std() > 10


def test_downsamples_that_are_no_powers_of_two(tmp_path: Path) -> None:
    """OpenSlide interpolates between level pixels there: half a level pixel at most."""
    levels = pyramid(smooth_image(1500, 1100), (1, 2.5, 6.0))
    with open_slide(write(tmp_path / "odd.tiff", levels), reader="openslide") as slide:
        assert [round(d, 1) for d in slide.info.level_downsamples] == [1.0, 2.5, 6.0]
        found = slide.read_region(640, 333, 1, 120, 90).astype(int)
        expected = levels[1][133:223, 256:376].astype(int)
        assert np.abs(found - expected).mean() < 4
        shifted = levels[1][141:231, 264:384].astype(int)
        assert np.abs(found - shifted).mean() > 3 * np.abs(found - expected).mean()


def test_scaled_reading_of_a_flat_file_equals_area_averaging() -> None:
    image = smooth_image()
    found = read_scaled(ArrayReader(image, mpp=0.5), mpp=2.0, strip_px=64)
    expected = cv2.resize(image, (112, 80), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(found, expected)


def test_scaled_reading_uses_both_mpp() -> None:
    found = read_scaled(ArrayReader(smooth_image(), mpp=(0.5, 1.0)), mpp=2.0)
    assert found.shape == (160, 112, 3)


def test_auto_reports_the_error_of_each_reader(tmp_path: Path) -> None:
    path = tmp_path / "no.svs"
    path.write_bytes(b"not a slide")
    with pytest.raises(SlideError, match=r"'no'.*openslide.*no TIFF file"):
        open_slide(path)


def test_empty_and_absent_files(tmp_path: Path) -> None:
    (tmp_path / "zero.svs").touch()
    with pytest.raises(SlideError, match=r"zero.*0 bytes"):
        open_slide(tmp_path / "zero.svs")
    with pytest.raises(SlideError, match="no file"):
        open_slide(tmp_path / "none.svs")


def test_a_reader_from_outside_opens(lossless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By package.module:Name, and as a file in the folder of readers; listing names imports nothing."""
    code = (
        "from wsi_mil.slides.readers.tiffslide import TiffSlideReader\n"
        "class Mine(TiffSlideReader):\n    name = 'mine_of_ours'\nREADER = Mine\n"
    )
    (tmp_path / "mine_of_ours.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WSI_MIL_TRUST", "mine_of_ours:Mine,no_reader")
    with open_slide(lossless, reader="mine_of_ours:Mine") as slide:
        assert slide.info.reader == "mine_of_ours"
    monkeypatch.setattr("wsi_mil.slides.readers.__path__", [*readers.__path__, str(tmp_path)])
    assert "mine_of_ours" in list(READERS)
    assert "wsi_mil.slides.readers.mine_of_ours" not in sys.modules
    with open_slide(lossless, reader="mine_of_ours") as slide:
        np.testing.assert_array_equal(slide.read_region(3, 5, 0, 20, 9), LEVELS[0][5:14, 3:23])
    (tmp_path / "no_reader.py").write_text("def Mine(path, slide_id, mpp): return 3\n")
    with pytest.raises(ConfigError, match="made a int: it must derive"):
        open_slide(lossless, reader="no_reader:Mine")


def test_unknown_reader_names_the_nearest(lossless: Path) -> None:
    with pytest.raises(ConfigError, match=r"No reader named 'opensilde'. Known: .*openslide"):
        open_slide(lossless, reader="opensilde")


def test_a_removed_reader_names_its_successor(lossless: Path) -> None:
    with pytest.raises(ConfigError, match=r"jpeg_tiles_dct' was removed .*use 'jpeg_tiles' or 'auto'"):
        open_slide(lossless, reader="jpeg_tiles_dct")


def test_no_mpp_is_refused_with_the_overrides(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "n.tiff", smooth_image(), tile=(64, 64), photometric="rgb", metadata=None)
    with pytest.raises(ScaleError, match=r"'n'.*'mpp' in the labels CSV.*slides.mpp=0.25"):
        open_slide(tmp_path / "n.tiff")
    with open_slide(tmp_path / "n.tiff", mpp=(0.25, 0.3)) as slide:
        assert (slide.info.mpp_x, slide.info.mpp_y, slide.info.mpp_source) == (0.25, 0.3, "override")


def test_bounds_need_all_four_as_whole_numbers() -> None:
    four = {
        "openslide.bounds-x": "7",
        "openslide.bounds-y": "9",
        "openslide.bounds-width": "50",
        "openslide.bounds-height": "40",
    }
    assert find_bounds(dict(four)) == Bounds(7, 9, 50, 40)
    assert find_bounds({k: v for k, v in four.items() if not k.endswith("height")}) is None
    assert find_bounds({**four, "openslide.bounds-x": "7.5"}) is None


def test_fixtures_of_openslide(data_folder: Path) -> None:
    """A file whose pixels cannot be decoded opens, and every read says where it failed."""
    folder = data_folder / "wsi" / "openslide_fixtures"
    if not folder.is_dir():
        pytest.skip("no openslide_fixtures")
    with open_slide(folder / "unreadable.svs", mpp=0.5, reader="openslide") as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match=r"unreadable.*level 0, x 0, y 0"):
                slide.read_region(0, 0, 0, 16, 16)
    with open_slide(folder / "boxes_0.dcm", mpp=0.5) as slide:
        assert slide.info.vendor == "dicom"
