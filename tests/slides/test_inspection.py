"""What a TIFF file holds: the slide among its images, pixel formats that are shown, converted or refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.slides.test_readers import LEVELS, FileSuite, pyramid, smooth_image, write
from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides import SlideReader, open_slide

IMAGE = LEVELS[0]
GRAY = IMAGE[..., 0]
STRIPS = {"tile": None, "rowsperstrip": 48}
TILES = {"tile": (64, 64)}
LAYOUTS = pytest.mark.parametrize("layout", [STRIPS, TILES], ids=["strips", "tiles"])


def pixels_of(path: Path, reader: str = "auto") -> RGB:
    with open_slide(path, reader=reader) as slide:
        return slide.read_region(0, 0, 0, slide.info.width_px, slide.info.height_px)


class TestTiff(FileSuite):
    """The reader `tiff` on the slide of the other readers."""

    reader = "tiff"


class TestTiffStrips(FileSuite):
    reader = "tiff"

    @pytest.fixture(autouse=True)
    def _take(self, tmp_path: Path, transparent: Path) -> None:
        self.path = write(tmp_path / "strips.tiff", LEVELS, **STRIPS)
        self.transparent = transparent

    def open(self) -> SlideReader:
        return open_slide(self.path, reader=self.reader)


class TestPlanar(TestTiffStrips):
    """Separate planes of red, green and blue."""

    @pytest.fixture(autouse=True)
    def _take(self, tmp_path: Path, transparent: Path) -> None:
        planes = [np.ascontiguousarray(np.moveaxis(level, 2, 0)) for level in LEVELS]
        self.path = write(tmp_path / "planes.tiff", planes, planarconfig="separate")
        self.transparent = transparent


@LAYOUTS
@pytest.mark.parametrize(
    ("values", "options", "problem"),
    [
        (IMAGE.astype(np.uint16) * 16, {}, "16 bits per channel"),
        (IMAGE.astype(np.float32), {}, "floating point pixels of 32 bits"),
        (IMAGE.astype(np.int8), {}, "signed pixels of 8 bits"),
        (
            np.dstack([IMAGE, IMAGE[..., :2]]),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "5 ch",
        ),
        (IMAGE[..., :2].copy(), {"photometric": "minisblack", "planarconfig": "contig"}, "2 channels"),
        (np.dstack([IMAGE, GRAY]), {"extrasamples": ["UNSPECIFIED"]}, "4 channels"),
        (IMAGE, {"photometric": "cielab"}, "CIE L"),
        *((IMAGE, {"extratags": [(274, 3, 1, tag, True)]}, f"orientation tag {tag}") for tag in (2, 3, 6, 8)),
    ],
)
def test_pixels_that_are_no_rgb_are_refused_by_every_reader(
    tmp_path: Path, values: np.ndarray, options: dict[str, object], problem: str, layout: dict[str, object]
) -> None:
    path = write(tmp_path / "case.tiff", [values], **(layout | options))
    for reader in ("auto", "openslide", "tiffslide", "tiff", "jpeg_tiles"):
        with pytest.raises(SlideError, match=f"'case'.*{problem}"):
            open_slide(path, reader=reader)


def test_gray_images_of_one_size_are_channels(tmp_path: Path) -> None:
    path = write(tmp_path / "stack.tiff", [GRAY, GRAY, GRAY], photometric="minisblack")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.tags[254].overwrite(0)
    with pytest.raises(SlideError, match=r"'stack'.*3 gray images of 448 x 320"):
        open_slide(path)


@LAYOUTS
def test_gray_white_is_zero_and_palette_become_rgb(tmp_path: Path, layout: dict[str, object]) -> None:
    gray = np.repeat(GRAY[..., None], 3, 2)
    black = write(tmp_path / "black.tiff", [GRAY], photometric="minisblack", **layout)
    np.testing.assert_array_equal(pixels_of(black), gray)
    white = write(tmp_path / "white.tiff", [255 - GRAY], photometric="miniswhite", **layout)
    np.testing.assert_array_equal(pixels_of(white), gray)
    table = np.random.default_rng(3).integers(0, 256, (3, 256), np.uint16) * 257
    coloured = write(tmp_path / "palette.tiff", [GRAY], photometric="palette", colormap=table, **layout)
    np.testing.assert_array_equal(pixels_of(coloured), np.moveaxis(table[:, GRAY] // 257, 0, -1))


@LAYOUTS
def test_cmyk_becomes_rgb(tmp_path: Path, layout: dict[str, object]) -> None:
    """Without black, each ink is the complement of a colour; with it, the light is multiplied."""
    for black in (0, 51):
        inks = np.dstack([255 - IMAGE, np.full(GRAY.shape, black, np.uint8)])
        path = write(tmp_path / f"inks_{black}.tiff", [inks], photometric="separated", **layout)
        np.testing.assert_array_equal(pixels_of(path), np.rint(IMAGE * (1 - black / 255)))
        for reader in ("openslide", "tiffslide"):
            with pytest.raises(SlideError, match=r"auto|cannot be opened"):
                open_slide(path, reader=reader)


@LAYOUTS
@pytest.mark.parametrize("kind", ["UNASSALPHA", "ASSOCALPHA"])
def test_opacity_is_laid_over_white_alike(tmp_path: Path, layout: dict[str, object], kind: str) -> None:
    opacity = np.full(GRAY.shape, 255, np.uint8)
    opacity[:64] = 102
    weight = opacity[..., None] / 255
    expected = IMAGE * weight + 255 * (1 - weight)
    stored = np.rint(IMAGE * weight).astype(np.uint8) if kind == "ASSOCALPHA" else IMAGE
    path = write(tmp_path / "a.tiff", [np.dstack([stored, opacity])], extrasamples=[kind], **layout)
    readers = ["auto", "tiff"]
    readers += ["openslide"] if layout is TILES else []
    readers += ["tiffslide"] if kind == "UNASSALPHA" else []
    for reader in readers:
        assert np.abs(pixels_of(path, reader) - expected).max() <= 1, reader


def test_a_label_before_the_slide_is_not_the_slide(tmp_path: Path) -> None:
    path = write(tmp_path / "label.tiff", [smooth_image(192, 288), *LEVELS])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[1].tags[254].overwrite(0)  # the slide; its levels stay marked
    for reader in ("auto", "tiff"):
        np.testing.assert_array_equal(pixels_of(path, reader), IMAGE)
    with open_slide(path) as slide:
        assert slide.info.level_sizes_px == ((448, 320), (224, 160), (112, 80))
    for reader in ("openslide", "tiffslide"):
        with pytest.raises(
            SlideError, match=r"'label'.*(slide of this file is 448 x 320 px|cannot be opened)"
        ):
            open_slide(path, reader=reader)


@pytest.mark.parametrize("word", ["label", "macro", "thumbnail", "Label_Image", "Overview"])
def test_a_named_image_is_never_the_slide_nor_a_level(tmp_path: Path, word: str) -> None:
    path = tmp_path / "named.tiff"
    options = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for image, text in ((smooth_image(960, 640), word), (IMAGE, ""), (LEVELS[1][::-1].copy(), word)):
            tiff.write(
                image, resolution=(20000, 20000), description=text, subfiletype=int(bool(text)), **options
            )
    with open_slide(path) as slide:
        assert slide.info.level_sizes_px == ((448, 320),)
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 448, 320), IMAGE)


@pytest.mark.parametrize("form", ["subifds", "no mark"])
@pytest.mark.parametrize("compression", [None, "jpeg"])
def test_levels_that_openslide_does_not_see_are_used(
    tmp_path: Path, form: str, compression: str | None
) -> None:
    path = tmp_path / "levels.tiff"
    options = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(LEVELS):
            below = {"subifds": 2 if number == 0 else None, "subfiletype": int(number > 0)}
            tiff.write(
                level,
                resolution=(20000, 20000),
                compression=compression,
                **options,
                **(below if form == "subifds" else {}),
            )
    truth = tifffile.TiffFile(path)
    with open_slide(path) as slide, truth:
        assert slide.info.reader == "tiff"
        assert slide.info.level_sizes_px == ((448, 320), (224, 160), (112, 80))
        pages = truth.pages[0].pages if form == "subifds" else truth.pages[1:]
        np.testing.assert_array_equal(slide.read_region(40, 80, 2, 60, 40), pages[1].asarray()[20:60, 10:70])


@pytest.mark.parametrize("reader", ["auto", "openslide", "tiff"])
def test_levels_filled_up_to_whole_tiles_keep_their_scale(tmp_path: Path, reader: str) -> None:
    image = smooth_image(720, 500)[:500, :700].copy()
    levels = pyramid(image, (1, 2, 4))
    filled = [levels[0]]
    for level in levels[1:]:
        height, width = (-(-side // 128) * 128 for side in level.shape[:2])
        filled.append(np.full((height, width, 3), 255, np.uint8))
        filled[-1][: level.shape[0], : level.shape[1]] = level
    path = write(tmp_path / "filled.tiff", filled, tile=(128, 128))
    with open_slide(path, reader=reader) as slide:
        assert slide.info.level_sizes_px == ((700, 500), (350, 250), (175, 125))
        np.testing.assert_array_equal(slide.read_region(400, 200, 2, 60, 40), levels[2][50:90, 100:160])
        whole = slide.read_region(0, 0, 1, 384, 256)
        np.testing.assert_array_equal(whole[:250, :350], levels[1])
        assert (whole[250:] == 255).all()


def test_an_image_of_another_shape_is_no_level_and_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.tiff", [IMAGE, smooth_image(160, 160), LEVELS[2]])
    with open_slide(path) as slide:
        assert slide.info.level_sizes_px == ((448, 320), (112, 80))
        assert "160 x 160 px is no level" in slide.info.notes[0]
        np.testing.assert_array_equal(slide.read_region(40, 80, 1, 60, 40), LEVELS[2][20:60, 10:70])


def test_a_scale_of_0_by_0_is_unknown(tmp_path: Path) -> None:
    path = write(tmp_path / "zero.tiff", [IMAGE])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for code in (282, 283):
            tiff.pages[0].tags[code].overwrite((0, 0))
    for reader in ("auto", "openslide", "tiffslide", "tiff"):
        with pytest.raises(SlideError, match=r"'zero'"):
            open_slide(path, reader=reader)
        if reader != "tiffslide":  # which divides by the 0 itself
            with open_slide(path, reader=reader, mpp=0.5) as slide:
                assert slide.info.mpp_source == "override"


def test_images_that_point_at_each_other_and_huge_tiles_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "loop.tiff", LEVELS)
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[2]
        end = last.offset + 2 + 12 * len(last.tags)
    data = bytearray(path.read_bytes())
    data[end : end + 4] = first.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"'loop'.*point at each other"):
        open_slide(path)
    path = write(tmp_path / "huge.tiff", [IMAGE])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for code in (322, 323):
            tiff.pages[0].tags[code].overwrite(60_000)
    for reader in ("auto", "openslide"):
        with pytest.raises(SlideError, match=r"'huge'.*3,600,000,000 pixels in one tile"):
            open_slide(path, reader=reader)


@pytest.mark.parametrize("text", ["ImageJ=1.54f\nimages=5\nchannels=5\n", "<OME><Pixels SizeC='5'/></OME>"])
def test_channels_that_only_the_description_states_are_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "dark.tiff", [GRAY], photometric="minisblack", description=text.encode())
    with pytest.raises(SlideError, match=r"'dark'.*states 5 channels"):
        open_slide(path)


@pytest.mark.parametrize("reader", ["auto", "openslide", "tiff"])
def test_a_smaller_image_with_other_pixels_is_no_level(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "mixed.tiff"
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate((IMAGE, LEVELS[1].astype(np.uint16), LEVELS[2])):
            tiff.write(
                level,
                tile=(64, 64),
                photometric="rgb",
                metadata=None,
                subfiletype=int(number > 0),
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
            )
    with open_slide(path, reader=reader) as slide:
        assert slide.info.level_sizes_px == ((448, 320), (112, 80))
        np.testing.assert_array_equal(slide.read_region(40, 80, 1, 60, 40), LEVELS[2][20:60, 10:70])
