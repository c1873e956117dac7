"""Text on pictures: a font, lines that fit a width, and the text as an array of its own.

The font is DejaVu Sans, which matplotlib brings along: it has Latin, Greek and Cyrillic letters. Only its
file is used, since importing matplotlib takes longer than drawing a picture.
"""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"
LEFT_OUT = " … "


@cache
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """Return the font of a size in pixels, the same letters on every machine."""
    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / FONT
    return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)


def line_height_px(size_px: int) -> int:
    """Return the distance of two lines of text.

    >>> line_height_px(14)
    17
    """
    return sum(font(size_px).getmetrics())


def fitting_lines(text: str, size_px: int, width_px: float, most: int) -> list[str]:
    """Return `text` as at most `most` lines that are at most `width_px` wide.

    Lines are broken at spaces, and within words that are wider than a line. Of a text that is too long the
    middle is left out: titles begin with the slide and end with the result.

    >>> fitting_lines("slide_a   mi_net: slide probability 0.981", 14, 180, 3)
    ['slide_a   mi_net: slide', 'probability 0.981']
    """
    lines = _lines(text, size_px, width_px)
    kept = len(text)
    while len(lines) > most and kept > 0:
        kept -= max(kept // 20, 1)
        half = kept // 2
        lines = _lines(text[: kept - half] + LEFT_OUT + text[len(text) - half :], size_px, width_px)
    return lines[:most]


def _lines(text: str, size_px: int, width_px: float) -> list[str]:
    measure = font(size_px).getlength
    lines: list[str] = []
    for word in re.sub(r"\s", " ", text.strip()).split(" "):  # several spaces stay, within a line
        if lines and measure(f"{lines[-1]} {word}") <= width_px:
            lines[-1] = f"{lines[-1]} {word}"
            continue
        rest = word
        while len(rest) > 1 and measure(rest) > width_px:
            fits = next((n for n in range(len(rest) - 1, 1, -1) if measure(rest[:n]) <= width_px), 1)
            lines.append(rest[:fits])
            rest = rest[fits:]
        if rest:
            lines.append(rest)
    return [line.rstrip() for line in lines]


def written(lines: list[str], size_px: int, width_px: int) -> NDArray[np.uint8]:
    """Return black lines of text on white, each in the middle: (lines x `line_height_px`, `width_px`)."""
    step = line_height_px(size_px)
    picture = Image.new("L", (width_px, step * len(lines)), 255)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((width_px / 2, number * step), line, fill=0, font=font(size_px), anchor="ma")
    return np.asarray(picture)
