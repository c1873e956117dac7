"""Find tissue on a coarse image of a slide, and drop small pieces and holes.

`auto` compares each pixel with the glass of the same slide (`wsi_mil.tissue.absorption`). `otsu` and
`threshold` use saturation alone.

Otsu, A threshold selection method from gray-level histograms, 1979.
"""

import math
from typing import Literal

import cv2
import numpy as np
import shapely
from pydantic import Field
from shapely import MultiPolygon
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.arrays import RGB, Mask
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.spec import Spec
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.geojson import polygonal
from wsi_mil.raster import polygonize, rasterize
from wsi_mil.slides import SlideReader, read_scaled
from wsi_mil.tissue.absorption import segment_by_absorption
from wsi_mil.units import UM2_PER_MM2, um_to_px


class TissueSpec(Spec):
    """How tissue is distinguished from glass, on an image of `mpp` µm per pixel. Saturation is 0 to 255.

    `method`: auto finds tissue of any stain by the light that it absorbs; otsu takes saturation above Otsu's
    threshold, which is at least `saturation_floor`, so that an empty slide has no tissue; threshold takes
    saturation above `saturation_threshold`; whole takes the whole slide. auto uses half of `blur_um` and half
    of `close_um`, because its edges are where half a pixel is tissue.
    """

    method: Literal["auto", "otsu", "threshold", "whole"] = "auto"
    mpp: float = Field(default=8.0, gt=0, description="µm per pixel of the coarse image")
    saturation_threshold: float = Field(default=20.0, ge=0, le=255)
    saturation_floor: float = Field(default=12.0, ge=0, le=255)
    blur_um: float = Field(default=16.0, ge=0, description="sigma of a Gaussian blur before the threshold")
    close_um: float = Field(default=40.0, ge=0, description="radius of the gaps that are closed")
    min_area_mm2: float = Field(default=0.02, ge=0, description="smaller pieces of tissue are dropped")
    min_hole_um2: float = Field(default=20_000.0, ge=0, description="smaller holes are filled")
    ink: bool = Field(
        default=True,
        description="drop pen marks. auto: green, blue, red and black marks on glass; otsu, "
        "threshold: saturated green and blue",
    )


def find_tissue(reader: SlideReader, spec: TissueSpec) -> TissueMask:
    """Return the tissue of an open slide; an empty mask if there is none.

    >>> from wsi_mil.slides import ArrayReader
    >>> find_tissue(ArrayReader(np.full((400, 600, 3), 245, np.uint8), mpp=1.0), TissueSpec()).mask.any()
    np.False_
    """
    info = reader.info
    if spec.method == "whole":
        return mask_from_polygons(
            shapely.box(0, 0, info.width_px, info.height_px), info, spec.mpp, "whole", "whole"
        )
    image = read_scaled(reader, spec.mpp)
    mpp_x, mpp_y = max(spec.mpp, info.mpp_x), max(spec.mpp, info.mpp_y)
    mask, how = segment(image, spec, mpp=(mpp_x * mpp_y) ** 0.5)
    scale_x_px, scale_y_px = mpp_x / info.mpp_x, mpp_y / info.mpp_y
    outline: BaseGeometry = polygonize(mask, scale_x_px, scale_y_px)
    # The outline follows the edges of mask pixels. Moving it by up to 3/4 of one removes 9 of 10 points,
    # which makes it easier to edit.
    outline = outline.simplify(0.75 * max(scale_x_px, scale_y_px), preserve_topology=True)
    slide = shapely.box(0, 0, info.width_px, info.height_px)
    inside = outline.is_empty or (outline.bounds[2] <= info.width_px and outline.bounds[3] <= info.height_px)
    if not mask.any():
        how = f"{how}; {appearance(image)}"
    inside_slide = outline if inside else outline.intersection(slide)
    return mask_from_polygons(inside_slide, info, spec.mpp, spec.method, how)


def appearance(image: RGB) -> str:
    """Return the saturation and brightness of an image (H, W, 3) in words: median, and the range of 98 %.

    >>> appearance(np.full((4, 4, 3), 240, np.uint8))
    'saturation 0 (0 to 0), brightness 240 (240 to 240), of 255'
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    low, middle, high = np.percentile(hsv[..., 1:].reshape(-1, 2), [1, 50, 99], axis=0)
    parts = [
        f"{name} {middle[at]:.0f} ({low[at]:.0f} to {high[at]:.0f})"
        for at, name in enumerate(("saturation", "brightness"))
    ]
    return f"{', '.join(parts)}, of 255"


def segment(image: RGB, spec: TissueSpec, mpp: float) -> tuple[Mask, str]:
    """Return the mask (H, W) of tissue in an RGB image (H, W, 3) at `mpp` µm/px, and how it was found."""
    if spec.method == "auto":
        found = segment_by_absorption(image, mpp, spec.blur_um, spec.ink)
        return _cleaned(found.mask, spec, mpp, 0.5), found.describe()
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    saturation = hsv[:, :, 1].astype(np.uint8)
    # In almost black pixels rounding alone gives any saturation, so they count as not saturated.
    saturation[hsv[:, :, 2] < 25] = 0
    if spec.ink:
        saturation[_ink(hsv)] = 0
    if spec.blur_um > 0:
        saturation = cv2.GaussianBlur(saturation, (0, 0), max(um_to_px(spec.blur_um, mpp), 0.1)).astype(
            np.uint8
        )
    threshold = spec.saturation_threshold
    if spec.method == "otsu":
        otsu, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        threshold = max(float(otsu), spec.saturation_floor)
    how = f"{spec.method}: saturation above {threshold:g} of 255"
    return _cleaned(saturation > threshold, spec, mpp), how


def _cleaned(found: Mask, spec: TissueSpec, mpp: float, closing: float = 1.0) -> Mask:
    """Return the mask with gaps closed, and without small pieces and small holes."""
    mask = found.astype(np.uint8)
    radius = round(um_to_px(closing * spec.close_um, mpp))
    if radius > 0:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        border = cv2.copyMakeBorder(mask, radius, radius, radius, radius, cv2.BORDER_REPLICATE)
        mask = cv2.morphologyEx(border, cv2.MORPH_CLOSE, disc)[radius:-radius, radius:-radius]
    clean = drop_small(mask.astype(bool), spec.min_area_mm2 * UM2_PER_MM2 / mpp**2)
    return ~drop_small(~clean, spec.min_hole_um2 / mpp**2)


def _ink(hsv: RGB) -> Mask:
    """Return the mask of pen marks: strongly saturated hues between yellow-green and blue.

    OpenCV's hue is 31 to 121 there, that of haematoxylin and eosin (violet to pink) is above.
    """
    ink = cv2.inRange(hsv, (31, 91, 0), (121, 255, 255))
    return np.asarray(cv2.dilate(ink, np.ones((5, 5), np.uint8)), np.bool_)


def drop_small(mask: Mask, min_area_px2: float) -> Mask:
    """Return the mask without connected pieces (8 neighbours) of fewer than `min_area_px2` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_area_px2
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


def mask_from_polygons(
    geometry: BaseGeometry, info: SlideInfo, mpp: float, source: str, how: str = ""
) -> TissueMask:
    """Return the tissue of polygons in level-0 px, as a mask of about `mpp` µm per pixel.

    The mask is never finer than the slide, and its pixels divide the slide exactly.
    """
    columns = math.ceil(info.width_px / max(mpp / info.mpp_x, 1.0))
    rows = math.ceil(info.height_px / max(mpp / info.mpp_y, 1.0))
    scale_x_px, scale_y_px, shape = info.width_px / columns, info.height_px / rows, (rows, columns)
    if isinstance(geometry, MultiPolygon) and geometry.is_valid:
        polygons = geometry  # a union would change nothing
    else:
        polygons = polygonal(shapely.union_all(geometry))
    mask = rasterize(polygons, shape, scale_x_px, scale_y_px)
    return TissueMask(mask, scale_x_px, scale_y_px, mpp, polygons, source, how)
