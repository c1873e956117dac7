"""A window shows its tile in the middle at another scale, and white beyond the edge of the slide."""

import numpy as np
import pytest

from tests.heatmaps.test_heatmaps import table
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import SlideError
from wsi_mil.slides import ArrayReader
from wsi_mil.tiles.windows import plan_windows, read_windows

INFO = SlideInfo("s/1", "", ((800, 600),), (1.0,), 0.5, 0.5, "test", None, "v", "r", "1")


def test_a_window_is_whole_map_pixels_around_its_tile() -> None:
    plan = plan_windows(INFO, TileSpec(mpp=1.0, size_px=50), mpp=2.0, map_mpp=4.0, margin_um=30)
    assert (plan.map_px, plan.margin_px) == (12, 7)  # 50 µm in 12 pixels of 4.17 µm, 30 µm in 7
    assert plan.size_px == round(26 * (50 / 12) / 2)
    assert plan.margin0_xy_px == pytest.approx((7 * 50 / 12 / 0.5,) * 2)


def test_the_tile_is_in_the_middle() -> None:
    pixels = np.full((600, 800, 3), 200, np.uint8)
    tiles = table(INFO)  # 64 µm: 128 px
    row = int(np.flatnonzero((tiles.coords == [256, 128]).all(1))[0])
    pixels[128:256, 256:384] = 40
    reader = ArrayReader(pixels, mpp=0.5)
    plan = plan_windows(INFO, tiles.spec, mpp=2.0, map_mpp=4.0, margin_um=16)
    found, readable = read_windows(reader, tiles, [row, 0], plan)
    assert readable.all()
    assert found.shape == (2, 48, 48, 3)
    inside = found[0, :, :, 0] == 40
    assert inside.sum() == 32 * 32
    assert inside[8:40, 8:40].all()
    assert (found[1, :8, :, 0] == 255).all()  # above the slide there is glass
    assert (found[1, 8:, 8:, 0] == 200).all()


def test_a_slide_that_is_too_coarse_and_a_tile_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SlideError, match=r"0\.25 µm/px is finer than slide"):
        plan_windows(INFO, TileSpec(mpp=1.0, size_px=64), mpp=0.25, map_mpp=4.0, margin_um=0)
    tiles = table(INFO)
    plan = plan_windows(INFO, tiles.spec, mpp=2.0, map_mpp=4.0, margin_um=0)
    reader = ArrayReader(np.zeros((600, 800, 3), np.uint8), mpp=0.5)
    read = ArrayReader.read_region

    def broken(self: ArrayReader, x0_px: int, *rest: int) -> np.ndarray:
        if x0_px == 128:
            raise SlideError("no pixels")
        return read(self, x0_px, *rest)

    monkeypatch.setattr(ArrayReader, "read_region", broken)
    _, readable = read_windows(reader, tiles, [0, 1, 2], plan)
    assert readable.tolist() == [True, False, True]
