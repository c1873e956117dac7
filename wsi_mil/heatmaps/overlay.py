"""The picture that people look at first: the slide, the scores over it, a colour bar and a scale bar."""

import io

import cv2
import numpy as np
import shapely

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.heatmaps.raster import ScoreRaster


def blend(thumbnail: RGB, raster: ScoreRaster, info: SlideInfo, alpha: float = 0.55) -> RGB:
    """Return the thumbnail with the raster over it; where there is no score, the slide is left as it is.

    The opacity grows with the score, so that unsuspicious tissue stays readable.
    """
    from matplotlib import colormaps

    height, width = thumbnail.shape[:2]
    # The raster overhangs the slide by less than a pixel: map by level-0 coordinates, not by array corners.
    column = ((np.arange(width) + 0.5) * info.width_px / width / raster.scale_x_px).astype(int)
    row = ((np.arange(height) + 0.5) * info.height_px / height / raster.scale_y_px).astype(int)
    rows, columns = raster.values.shape
    values = raster.values[np.minimum(row, rows - 1)[:, None], np.minimum(column, columns - 1)[None, :]]
    colours = colormaps["turbo"](np.nan_to_num(values))[:, :, :3] * 255
    weight = np.where(np.isfinite(values), alpha * (0.25 + 0.75 * np.nan_to_num(values)), 0)[:, :, None]
    blended: RGB = np.rint(thumbnail * (1 - weight) + colours * weight).astype(np.uint8)
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
    black."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    picture = blend(thumbnail, raster, info)
    scale = np.array([picture.shape[1] / info.width_px, picture.shape[0] / info.height_px])
    for outline in outlines or []:
        for polygon in outline.geoms:
            for ring in (polygon.exterior, *polygon.interiors):
                points = np.rint(shapely.get_coordinates(ring) * scale).astype(np.int32).reshape(-1, 1, 2)
                cv2.polylines(picture, [points], True, (0, 0, 0), 1, cv2.LINE_AA)
    height, width = picture.shape[:2]
    dpi = 100
    figure = Figure(figsize=((width + 120) / dpi, (height + 60) / dpi), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(picture, interpolation="none")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=10)
    bar = figure.colorbar(ScalarMappable(cmap="turbo"), ax=axes, fraction=0.04, pad=0.01)
    bar.set_label(colour_label, fontsize=9)
    _scale_bar(axes, width, height, info.mpp_x * info.width_px / width)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _scale_bar(axes, width: int, height: int, mpp: float) -> None:  # type: ignore[no-untyped-def]
    """A bar of a round length, about a fifth of the picture, in the lower left corner."""
    target = width * mpp / 5
    length_um = max(
        (step * 10**power for power in range(6) for step in (1, 2, 5) if step * 10**power <= target),
        default=1,
    )
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    x, y, length = 0.03 * width, 0.96 * height, length_um / mpp
    axes.plot([x, x + length], [y, y], color="white", linewidth=5, solid_capstyle="butt")
    axes.plot([x, x + length], [y, y], color="black", linewidth=2.5, solid_capstyle="butt")
    axes.text(x + length / 2, y - 0.012 * height, label, ha="center", va="bottom", fontsize=9)
