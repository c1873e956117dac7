"""What tiles and windows return, to the type; small tiles see tissue finer than the mask that was given."""

import numpy as np
import pytest
import shapely

from tests.tiles.test_tiles import info, whole
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.slides import ArrayReader
from wsi_mil.tiles import TileReader, tile_grid, tile_slide
from wsi_mil.tiles.windows import plan_windows, read_windows
from wsi_mil.tissue import mask_from_polygons


@pytest.mark.parametrize("edge_px", [130, 150, 171])
def test_small_tiles_have_the_tissue_of_the_polygon_and_not_of_a_coarse_mask(edge_px: int) -> None:
    """A pixel of the mask is as large as a tile; the fraction is that of the outline to half an eighth."""
    slide = info(640, 320, 0.5)
    tissue = mask_from_polygons(shapely.box(0, 0, edge_px, 320), slide, 16.0, "test")
    table = tile_slide(slide, tissue, TileSpec(mpp=0.5, size_px=32, min_tissue_fraction=0))
    expected = np.clip((edge_px - table.coords[:, 0]) / 32, 0, 1)
    np.testing.assert_allclose(table.tissue, expected, atol=1 / 16 + 1e-6)


@pytest.mark.parametrize("size", [1, 7, 64, 100, 101])
@pytest.mark.parametrize("stride", [3, 64, 250])
def test_the_grid_is_every_step_at_which_a_tile_fits(size: int, stride: int) -> None:
    """Against a loop over all pixels; a slide of 100 x 73 pixels."""
    found = tile_grid(info(100, 73, 1.0), TileSpec(mpp=1.0, size_px=size, stride_px=stride))
    expected = [
        [x, y]
        for y in range(73)
        for x in range(100)
        if x % stride == 0 and y % stride == 0 and x + size <= 100 and y + size <= 73
    ]
    assert found.tolist() == expected
    assert found.shape == (len(expected), 2)


def test_pixels_are_bytes_and_readable_is_boolean() -> None:
    reader = ArrayReader(np.full((120, 200, 3), 90, np.uint8), mpp=1.0)
    table = tile_slide(reader.info, whole(reader.info), TileSpec(mpp=1.0, size_px=40))
    (batch,) = TileReader(reader, table).batches(100)
    assert (batch.pixels.dtype, batch.readable.dtype) == (np.uint8, np.bool_)
    plan = plan_windows(reader.info, table.spec, mpp=1.0, map_mpp=4.0, margin_um=8)
    pixels, readable = read_windows(reader, table, [0, 1], plan)
    assert (pixels.dtype, readable.dtype) == (np.uint8, np.bool_)
