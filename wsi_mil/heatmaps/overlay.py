"""The picture that people look at first: the slide, the scores over it, a colour bar and a scale bar.

It is drawn with NumPy, OpenCV and Pillow: the axes of a plotting library would take ten times as long.
"""

from functools import cache

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.heatmaps.lettering import fitting_lines, font, line_height_px, written
from wsi_mil.heatmaps.raster import ScoreRaster
from wsi_mil.io.images import encode_png

COLOURS = 256
MARGIN, GAP = 8, 10
BAR, TICK = 18, 4
"""Width of the colour bar, and length of its ticks."""
TITLE_SIZE, LABEL_SIZE = 14, 12
TITLE_LINES, LABEL_LINES = 3, 3
LEAST_HEIGHT = 180
"""Of the colour bar: the names of scores need the space, also beside a flat slide."""


@cache
def turbo() -> NDArray[np.uint8]:
    """Return the colours of the scores 0 to 1 as (256, 3) uint8, the colour map Turbo (Mikhailov, 2019)."""
    steps = np.arange(COLOURS, dtype=np.uint8).reshape(-1, 1)
    blue_first = cv2.applyColorMap(steps, cv2.COLORMAP_TURBO).reshape(COLOURS, 3)
    return np.ascontiguousarray(blue_first[:, ::-1], np.uint8)


def blend(thumbnail: RGB, raster: ScoreRaster, info: SlideInfo, alpha: float = 0.55) -> RGB:
    """Return the thumbnail with the raster over it; where there is no score, the slide is left as it is.

    The opacity grows with the score, so that unsuspicious tissue stays readable.
    """
    height, width = thumbnail.shape[:2]
    # The raster overhangs the slide by less than a pixel: map by level-0 coordinates, not by array corners.
    column = ((np.arange(width) + 0.5) * info.width_px / width / raster.scale_x_px).astype(int)
    row = ((np.arange(height) + 0.5) * info.height_px / height / raster.scale_y_px).astype(int)
    rows, columns = raster.values.shape
    known = np.nan_to_num(raster.values)
    weight = np.where(np.isfinite(raster.values), np.float32(alpha) * (0.25 + 0.75 * known), 0)
    colours = turbo()[np.minimum((known * COLOURS).astype(int), COLOURS - 1)] * weight[:, :, None]
    over = np.dstack((colours, 1 - weight)).astype(np.float32)  # (rows, columns, 4)
    over = over[np.minimum(row, rows - 1)][:, np.minimum(column, columns - 1)]  # (height, width, 4)
    blended: RGB = np.rint(thumbnail * over[:, :, 3:] + over[:, :, :3]).astype(np.uint8)
    return blended


def draw_overlay(
    thumbnail: RGB,
    raster: ScoreRaster,
    info: SlideInfo,
    *,
    title: str = "",
    colour_label: str = "tile probability",
    outlines: list[shapely.MultiPolygon] | None = None,
) -> bytes:
    """Return a PNG of the blended slide with its title, colour bar and scale bar; `outlines` in level-0 px,
    black.

    A pixel of the thumbnail is a pixel of the picture. The PNG also holds title and name of the colour bar as
    text, under `Title` and `Description`.
    """
    picture = blend(thumbnail, raster, info)
    _draw_outlines(picture, info, outlines or [])
    _draw_scale_bar(picture, info.mpp_x * info.width_px / picture.shape[1])
    bar = _colour_bar(max(picture.shape[0], LEAST_HEIGHT), colour_label)
    width = MARGIN + picture.shape[1] + GAP + bar.shape[1] + MARGIN
    lines = fitting_lines(title, TITLE_SIZE, width - 2 * MARGIN, TITLE_LINES)
    top = MARGIN + (line_height_px(TITLE_SIZE) * len(lines) + MARGIN if lines else 0)
    canvas = np.full((top + bar.shape[0] + MARGIN, width, 3), 255, np.uint8)
    if lines:
        heading = written(lines, TITLE_SIZE, width)
        canvas[MARGIN : MARGIN + len(heading)] = heading[:, :, None]
    canvas[top : top + picture.shape[0], MARGIN : MARGIN + picture.shape[1]] = picture
    canvas[top : top + bar.shape[0], -MARGIN - bar.shape[1] : -MARGIN] = bar
    return encode_png(canvas, {"Title": title, "Description": f"colours: {colour_label}"})


def _draw_outlines(picture: RGB, info: SlideInfo, outlines: list[shapely.MultiPolygon]) -> None:
    scale = np.array([picture.shape[1] / info.width_px, picture.shape[0] / info.height_px])
    for outline in outlines:
        for polygon in outline.geoms:
            for ring in (polygon.exterior, *polygon.interiors):
                points = np.rint(shapely.get_coordinates(ring) * scale).astype(np.int32).reshape(-1, 1, 2)
                cv2.polylines(picture, [points], True, (0, 0, 0), 1, cv2.LINE_AA)


def _colour_bar(height: int, label: str) -> RGB:
    """Return the colours from 0 below to 1 above, their numbers, and what they mean, `height` pixels high."""
    half = line_height_px(LABEL_SIZE) // 2  # the numbers at both ends need the space
    lines = fitting_lines(label, LABEL_SIZE, height, LABEL_LINES)
    name = written(lines, LABEL_SIZE, height) if lines else np.empty((0, height), np.uint8)
    numbers = round(font(LABEL_SIZE).getlength("0.0"))
    left = BAR + TICK + 2
    picture = Image.new("RGB", (left + numbers + MARGIN + len(name), height), "white")
    pixels = np.array(picture)
    length = height - 2 * half
    steps = np.linspace(COLOURS - 1, 0, length).round().astype(int)
    pixels[half : half + length, :BAR] = turbo()[steps][:, None]
    pixels[:, left + numbers + MARGIN :] = np.rot90(name)[:, :, None]
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, half, BAR - 1, half + length - 1), outline="black")
    for tenth in range(0, 11, 2):
        y = half + round((length - 1) * (1 - tenth / 10))
        draw.line((BAR, y, BAR + TICK - 1, y), fill="black")
        draw.text((left, y), f"{tenth / 10:.1f}", fill="black", font=font(LABEL_SIZE), anchor="lm")
    return np.array(picture)


def _draw_scale_bar(picture: RGB, mpp: float) -> None:
    """Draw a bar of a round length, about a fifth of the picture, in the lower left corner."""
    height, width = picture.shape[:2]
    target = width * mpp / 5
    length_um = max(
        (step * 10**power for power in range(6) for step in (1, 2, 5) if step * 10**power <= target),
        default=1,
    )
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    wide = font(LABEL_SIZE).getlength(label)
    x, y, length = round(0.03 * width), round(0.96 * height), round(length_um / mpp)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((x, y - 3, x + length, y + 3), fill="white")
    draw.rectangle((x, y - 1, x + length, y + 1), fill="black")
    middle = max(x + length / 2, wide / 2 + 2)
    draw.text(
        (middle, y - 5),
        label,
        fill="black",
        font=font(LABEL_SIZE),
        anchor="md",
        stroke_width=2,
        stroke_fill="white",
    )
    picture[:] = np.asarray(image)
