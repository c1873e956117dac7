"""The text of an overlay can be read: nothing is cut off, whatever the sizes of slide and title."""

import io

import numpy as np
import pytest
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.heatmaps import ScoreRaster, draw_overlay
from wsi_mil.heatmaps.lettering import LEFT_OUT, fitting_lines, font, written
from wsi_mil.heatmaps.overlay import GAP, MARGIN, blend, turbo

TITLE = "centre_1/tumour_012   focus_mil: slide probability 0.981"
LABEL = "attention x probability; refined in suspicious tiles"
LONG = f"{'TCGA-AB-1234-' * 40}X   focus_mil (the model has not learned): slide probability 0.981"


def drawn(width: int, height: int, title: str = "", label: str = "tile probability") -> Image.Image:
    """Return the picture of a grey slide of one score."""
    info = SlideInfo("s/1", "", ((width * 10, height * 10),), (1.0,), 0.5, 0.5, "test", None, "v", "r", "1")
    raster = ScoreRaster(np.full((2, 3), 0.7, np.float32), width * 10 / 3, height * 10 / 2)
    thumbnail = np.full((height, width, 3), 200, np.uint8)
    return Image.open(io.BytesIO(draw_overlay(thumbnail, raster, info, title=title, colour_label=label)))


def ink(picture: Image.Image) -> NDArray[np.bool_]:
    """Return where a picture is not white."""
    marked: NDArray[np.bool_] = np.any(np.asarray(picture) != 255, axis=2)
    return marked


def test_the_colours_are_turbo() -> None:
    wanted = np.rint(colormaps["turbo"](np.arange(256))[:, :3] * 255)
    np.testing.assert_array_equal(turbo(), wanted)


def test_where_and_what_a_score_colours() -> None:
    """By hand: score 1 has weight .55 of Turbo's last colour, score 0 a quarter of it, no score none."""
    info = SlideInfo("s/1", "", ((60, 20),), (1.0,), 0.5, 0.5, "test", None, "v", "r", "1")
    raster = ScoreRaster(np.array([[1.0, 0.0, np.nan]], np.float32), 20.0, 20.0)
    found = blend(np.full((2, 6, 3), 200, np.uint8), raster, info)
    last, first = (np.array(colormaps["turbo"](score)[:3]) * 255 for score in (1.0, 0.0))
    for column, expected in ((0, 90 + 0.55 * last), (3, 172.5 + 0.1375 * first), (5, [200, 200, 200])):
        np.testing.assert_allclose(found[1, column], expected, atol=1)


@pytest.mark.parametrize(("width", "height"), [(900, 700), (900, 120), (100, 700), (100, 60)])
@pytest.mark.parametrize("title", ["", TITLE, LONG])
def test_no_text_is_cut_off(width: int, height: int, title: str) -> None:
    """Text that is cut off has ink at the border. The slide has its own size: its right column, which no bar
    reaches, is ink over all of its height."""
    picture = drawn(width, height, title, LABEL)
    marked = ink(picture)
    for border in (marked[: MARGIN - 4], marked[-(MARGIN - 4) :], marked[:, : MARGIN - 4], marked[:, -4:]):
        assert not border.any()
    column = "".join("x" if found else " " for found in marked[:, MARGIN + width - 1])
    assert max(map(len, column.split())) == height
    assert not marked[-height - MARGIN :, MARGIN + width : MARGIN + width + GAP].any()


def test_title_and_name_of_the_scores_are_drawn_and_are_text_of_the_file() -> None:
    without, titled, named = (drawn(300, 200, *texts) for texts in (("",), (TITLE,), ("", LABEL)))
    assert titled.text["Title"] == TITLE  # type: ignore[attr-defined]
    assert named.text["Description"] == f"colours: {LABEL}"  # type: ignore[attr-defined]
    above = titled.height - without.height
    assert ink(titled)[:above].any()
    np.testing.assert_array_equal(np.asarray(titled)[above:], np.asarray(without))
    assert not np.array_equal(np.asarray(named)[:, -40:], np.asarray(without)[:, -40:])
    np.testing.assert_array_equal(np.asarray(named)[:, :300], np.asarray(without)[:, :300])


@pytest.mark.parametrize("width", [60, 180, 900])
@pytest.mark.parametrize("text", [TITLE, LONG, "ein\nzwei  drei", "Опухоль_012: é, µ", ""])
def test_lines_fit(text: str, width: int) -> None:
    lines = fitting_lines(text, 14, width, 3)
    assert len(lines) <= 3
    assert all(0 < font(14).getlength(line) <= width for line in lines)
    joined = "".join(lines).replace(" ", "")
    if LEFT_OUT.strip() in joined:
        start, end = joined.split(LEFT_OUT.strip())
        compact = "".join(text.split())
        assert (compact.startswith(start), compact.endswith(end)) == (True, True)
        assert min(len(start), len(end)) > 5
    else:
        assert joined == "".join(text.split())


def test_letters_of_slide_names_are_in_the_font() -> None:
    """A letter that the font lacks is drawn as its sign for missing letters, which U+E123 has."""
    missing = written(["\ue123"], 14, 30)
    for letter in "aZ09éßłΩЖµ…":
        assert not np.array_equal(written([letter], 14, 30), missing)


def test_the_pieces_of_a_title_stay_apart() -> None:
    assert fitting_lines(TITLE, 14, 900, 3) == [TITLE]
