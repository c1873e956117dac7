"""Points of a pixel-level raster: where its smoothed maxima are, one per radius, most probable first."""

import numpy as np

from tests.heatmaps.test_heatmaps import table
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.evaluation.detections import find_in_raster

INFO = SlideInfo("s/1", "", ((1280, 640),), (1.0,), 0.5, 0.5, "test", None, "v", "r", "1")


def test_the_points_are_the_middles_of_the_spots() -> None:
    tiles = table(INFO)  # 64 um: 128 px, ten by five
    values = np.zeros((80, 160), np.float32)  # 8 px (4 um) a pixel
    values[30:41, 50:61] = 0.9  # 44 um a side, its middle at pixel (35, 55)
    values[10:21, 120:131] = 0.6
    values[70, 10] = 1.0  # one bright pixel is no lesion
    values[:, 150:] = np.nan
    found = find_in_raster("s/1", values, (8.0, 8.0), tiles, radius_um=150, smooth_um=24, min_probability=0.3)
    assert [round(point.score01, 2) for point in found] == [0.9, 0.6]
    for point, (x_px, y_px) in zip(found, ((55.5 * 8, 35.5 * 8), (125.5 * 8, 15.5 * 8)), strict=True):
        assert abs(point.x0_px - x_px) <= 4 * 8
        assert abs(point.y0_px - y_px) <= 4 * 8
    close = find_in_raster(
        "s/1", values, (8.0, 8.0), tiles, radius_um=1000, smooth_um=24, min_probability=0.3
    )
    assert len(close) == 1
    assert find_in_raster("s/1", np.zeros_like(values), (8.0, 8.0), tiles, radius_um=150, smooth_um=24) == []
