"""Pictures of false positives: the tile in the middle, the tissue around it."""

import numpy as np
import pytest


def test_crops_show_what_was_called() -> None:
    import cv2

    from wsi_mil.contracts.tiles import TileSpec, TileTable
    from wsi_mil.report.crops import CROP_PX, tissue_crop
    from wsi_mil.slides import ArrayReader
    from wsi_mil.tiles import plan_reading, tile_grid

    pixels = np.full((900, 1200, 3), 250, np.uint8)
    pixels[300:400, 500:600] = (200, 30, 30)  # one tile of 100 px
    reader = ArrayReader(pixels, mpp=0.5)
    spec = TileSpec(mpp=0.5, size_px=100)
    coords = tile_grid(reader.info, spec)
    ones = np.ones(len(coords), np.float32)
    table = TileTable(
        reader.info.slide_id, spec, plan_reading(reader.info, spec), coords, ones, (1200, 900), (0.5, 0.5)
    )
    picture = cv2.imdecode(np.frombuffer(tissue_crop(reader, table, 550, 350), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (CROP_PX, CROP_PX, 3)
    third = CROP_PX // 3
    assert picture[third + 8 : 2 * third - 8, third + 8 : 2 * third - 8, 2].mean() == pytest.approx(
        200, abs=6
    )
    assert picture[:40, :40].mean() > 240
