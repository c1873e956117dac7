"""A small picture of the tissue that was found and the tiles that were kept, to notice errors early."""

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.units import px2_to_mm2

OUTLINE, TILE = (0, 160, 0), (40, 80, 220)


def draw_preview(
    thumbnail: RGB,
    info: SlideInfo,
    tissue: TissueMask,
    coords: NDArray[np.int32] | None = None,
    tile_size0_px: tuple[float, float] = (0.0, 0.0),
) -> RGB:
    """Return the thumbnail (H, W, 3) with the outline of the tissue (green) and of the kept tiles (blue).

    `coords`: (N, 2) corners of tiles in level-0 px. A caption states the method, area and number of tiles.
    """
    image = thumbnail.copy()
    scale = np.array([image.shape[1] / info.width_px, image.shape[0] / info.height_px])
    if coords is not None and len(coords):
        kept = np.zeros(image.shape[:2], np.uint8)
        corners = np.rint(coords * scale).astype(int)
        far = np.rint((coords + tile_size0_px) * scale).astype(int)
        for (x0, y0), (x1, y1) in zip(corners.tolist(), far.tolist(), strict=True):
            kept[y0 : y1 + 1, x0 : x1 + 1] = 1  # one pixel more, so that rounding leaves no gap between tiles
        outlines, _ = cv2.findContours(kept, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(image, outlines, -1, TILE, 1)
    for polygon in tissue.polygons.geoms:
        for ring in (polygon.exterior, *polygon.interiors):
            points = np.rint(shapely.get_coordinates(ring) * scale).astype(np.int32)
            cv2.polylines(image, [points.reshape(-1, 1, 2)], True, OUTLINE, 2, cv2.LINE_AA)
    area = px2_to_mm2(tissue.polygons.area, info.mpp_x, info.mpp_y)
    tiles = "" if coords is None else f", {len(coords)} tiles"
    caption = f"tissue: {tissue.source}, {area:.2f} mm2{tiles}"
    (width, height), _ = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    cv2.rectangle(image, (0, 0), (width + 12, height + 12), (255, 255, 255), -1)
    cv2.putText(image, caption, (6, height + 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
    return np.asarray(image, np.uint8)
