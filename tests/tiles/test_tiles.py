"""Grid, plan and coverage against cases computed by hand and by brute force; pixels against truth."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from shapely import MultiPolygon

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.errors import DataError, SlideError
from wsi_mil.slides import ArrayReader, open_slide
from wsi_mil.synthetic.stained import draw_stained
from wsi_mil.tiles import TileReader, plan_reading, tile_grid, tile_slide, tissue_fractions
from wsi_mil.tissue import TissueSpec, find_tissue, mask_from_polygons


def info(
    width: int, height: int, mpp: float | tuple[float, float] = 0.5, downsamples: tuple[float, ...] = (1,)
) -> SlideInfo:
    mpp_x, mpp_y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    sizes = tuple((int(width / d), int(height / d)) for d in downsamples)
    return SlideInfo(
        "s", "", sizes, tuple(map(float, downsamples)), mpp_x, mpp_y, "test", None, "v", "r", "1"
    )


def whole(slide: SlideInfo) -> TissueMask:
    return mask_from_polygons(shapely.box(0, 0, slide.width_px, slide.height_px), slide, 8.0, "whole")


def test_tile_grid_by_hand() -> None:
    found = tile_grid(info(700, 520), TileSpec(mpp=1.0, size_px=100))  # a tile has 200 px at level 0
    assert found.tolist() == [[0, 0], [200, 0], [400, 0], [0, 200], [200, 200], [400, 200]]
    assert found.dtype == np.int32


def test_stride_and_pixels_that_are_not_square() -> None:
    spec = TileSpec(mpp=1.0, size_px=100, stride_px=50)
    found = tile_grid(info(400, 100, (0.5, 1.0)), spec)
    assert found.tolist() == [[0, 0], [100, 0], [200, 0]]


def test_rounding_does_not_add_up() -> None:
    slide = info(100_000, 800, 0.243)
    found = tile_grid(slide, TileSpec(mpp=0.5, size_px=256))
    step = 256 * 0.5 / 0.243
    last = found[found[:, 1] == 0][-1, 0]
    count = int((100_000 + 0.5) // step)
    assert last == round((count - 1) * step)
    assert np.abs(np.diff(found[found[:, 1] == 0][:, 0]) - step).max() < 1


@given(
    st.integers(40, 3000),
    st.integers(40, 3000),
    st.floats(0.2, 1.0),
    st.floats(0.2, 1.0),
    st.integers(16, 300),
    st.integers(8, 300),
)
@settings(max_examples=150, deadline=None)
def test_every_table_is_valid(w: int, h: int, mpp_x: float, mpp_y: float, size: int, stride: int) -> None:
    """Rows are sorted, unique and inside the slide, since TileTable refuses anything else."""
    slide = info(w, h, (mpp_x, mpp_y))
    spec = TileSpec(mpp=1.0, size_px=size, stride_px=stride, min_tissue_fraction=0)
    table = tile_slide(slide, whole(slide), spec)
    fits = size / mpp_x <= w + 0.5 and size / mpp_y <= h + 0.5
    assert (len(table) > 0) == fits


def test_a_tile_larger_than_the_slide_gives_no_tile() -> None:
    slide = info(300, 9000)
    assert len(tile_slide(slide, whole(slide), TileSpec(mpp=1.0, size_px=256))) == 0


@pytest.mark.parametrize(
    ("mpp", "downsamples", "level", "read"),
    [
        (0.5, (1, 2, 4), 0, (256, 256)),
        (1.0, (1, 2, 4), 1, (256, 256)),
        (1.5, (1, 2, 4), 1, (384, 384)),
        (4.0, (1, 2, 4), 2, (512, 512)),
        (1.25, (1, 2.5, 6), 1, (256, 256)),
        (1.0, (1, 2.5, 6), 0, (512, 512)),
        (2.0, (1,), 0, (1024, 1024)),
    ],
)
def test_the_best_finer_level_is_read(
    mpp: float, downsamples: tuple[float, ...], level: int, read: tuple[int, int]
) -> None:
    plan = plan_reading(info(10_000, 8_000, 0.5, downsamples), TileSpec(mpp=mpp, size_px=256))
    assert plan.level == level
    assert (plan.read_width_px, plan.read_height_px) == read


def test_upsampling_is_refused_with_the_setting_that_works() -> None:
    with pytest.raises(SlideError, match=r"tiles.mpp=0.25 is finer than slide 's' \(0.5 µm/px\).*>= 0.5"):
        plan_reading(info(1000, 900), TileSpec(mpp=0.25))
    plan_reading(info(1000, 900, 0.2527), TileSpec(mpp=0.25))  # scanners differ by about one per cent


def test_coverage_equals_counting_fine_pixels(rng: np.random.Generator) -> None:
    mask = rng.random((9, 13)) < 0.5
    tissue = TissueMask(mask, 8.0, 4.0, 1.0, MultiPolygon(), "test")
    coords = np.stack([rng.integers(0, 70, 40), rng.integers(0, 20, 40)], 1).astype(np.int32)
    fine = np.kron(mask, np.ones((4, 8)))
    expected = [fine[y : y + 12, x : x + 24].mean() for x, y in coords]
    found = tissue_fractions(tissue, coords, 24.0, 12.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_selection_keeps_what_has_tissue() -> None:
    slide = info(1000, 600, 1.0)
    half = mask_from_polygons(shapely.box(0, 0, 500, 600), slide, 10.0, "user")
    for fraction, count in ((0.0, 6), (0.5, 6), (0.51, 4), (1.0, 4)):
        spec = TileSpec(mpp=1.0, size_px=200, min_tissue_fraction=fraction)
        assert len(tile_slide(slide, half, spec)) == 3 * (count // 2), fraction


def test_impossible_tables_are_refused() -> None:
    slide = info(1000, 600, 1.0)
    spec = TileSpec(mpp=1.0, size_px=100)
    plan = plan_reading(slide, spec)

    def table(coords: list[list[int]], tissue: float = 1.0) -> TileTable:
        values = np.full(len(coords), tissue, np.float32)
        return TileTable(
            "s", spec, plan, np.array(coords, np.int32).reshape(-1, 2), values, (1000, 600), (1.0, 1.0)
        )

    table([[0, 0], [100, 0], [0, 100]])
    for wrong in ([[0, 100], [0, 0]], [[0, 0], [0, 0]], [[100, 0], [0, 0]]):
        with pytest.raises(DataError, match="sorted"):
            table(wrong)
    with pytest.raises(DataError, match="1000 x 600"):
        table([[950, 0]])
    with pytest.raises(DataError, match="fractions from 0 to 1"):
        table([[0, 0]], 1.5)


@pytest.mark.parametrize(
    "bad", [{"mpp": 0}, {"size_px": 0}, {"stride_px": 0}, {"min_tissue_fraction": 1.1}, {"magnification": 20}]
)
def test_impossible_specifications_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TileSpec(**bad)  # type: ignore[arg-type]


def test_pixels_at_the_requested_scale() -> None:
    """A tile at 1 µm/px of a slide of 0.5 µm/px is the mean over 2 x 2 pixels at its place in the grid."""
    image = np.random.default_rng(1).integers(0, 255, (240, 400, 3), dtype=np.uint8)
    reader = ArrayReader(image, mpp=0.5)
    table = tile_slide(reader.info, whole(reader.info), TileSpec(mpp=1.0, size_px=60))
    assert len(table) == 6
    x, y = table.coords[4]
    expected = cv2.resize(image[y : y + 120, x : x + 120], (60, 60), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(TileReader(reader, table).read(4), expected)


def test_the_same_tissue_is_seen_whatever_the_pyramid() -> None:
    noise = np.random.default_rng(2).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(noise, (1500, 1000), interpolation=cv2.INTER_CUBIC), np.uint8)
    spec = TileSpec(mpp=2.0, size_px=64)
    tiles = []
    for downsamples in ((1,), (1, 2), (1, 2.5), (1, 4)):
        reader = ArrayReader(image, mpp=0.5, downsamples=downsamples)
        table = tile_slide(reader.info, whole(reader.info), spec)
        tiles.append(np.stack([TileReader(reader, table).read(row) for row in range(len(table))]).astype(int))
    for other in tiles[1:]:
        assert np.abs(other - tiles[0]).mean() < 5  # half a pixel of the level that was read


def test_batches_come_in_order_and_count_what_cannot_be_read() -> None:
    class Damaged(ArrayReader):
        def _read(self, handle, level, x_px, y_px, width_px, height_px):  # type: ignore[no-untyped-def]
            if x_px == 100 and y_px == 50:
                raise OSError("premature end of JPEG data")
            return super()._read(handle, level, x_px, y_px, width_px, height_px)

    image = np.random.default_rng(3).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    reader = Damaged(image, mpp=1.0)
    table = tile_slide(reader.info, whole(reader.info), TileSpec(mpp=1.0, size_px=50))
    batches = list(TileReader(reader, table).batches(5, threads=3))
    assert [batch.start for batch in batches] == [0, 5, 10, 15, 20]
    readable = np.concatenate([batch.readable for batch in batches])
    assert np.flatnonzero(~readable).tolist() == [8]
    pixels = np.concatenate([batch.pixels for batch in batches])
    for row in (0, 7, 23):
        x, y = table.coords[row]
        np.testing.assert_array_equal(pixels[row], image[y : y + 50, x : x + 50])
    assert math.isclose(table.plan.tile_width0_px, 50)


def test_levels_that_were_filled_up_give_the_same_tiles(tmp_path: Path) -> None:
    """Levels stored as whole tiles, white or a copy of the edge beyond the slide, as some scanners write."""
    slide = draw_stained("he", 3, (1500, 1100))
    levels = [slide.image, *(cv2.resize(slide.image, (1500 // d, 1100 // d)) for d in (2, 4))]
    tables = {}
    for fill in ("none", "white", "edge"):
        path = tmp_path / f"{fill}.tif"
        with tifffile.TiffWriter(path) as writer:
            for number, level in enumerate(levels):
                right, bottom = (-level.shape[1] % 256, -level.shape[0] % 256) if number else (0, 0)
                if fill != "none":
                    white = (0, 0) if fill == "edge" else (bottom, right)
                    level = cv2.copyMakeBorder(
                        level, 0, white[0], 0, white[1], cv2.BORDER_CONSTANT, value=(255, 255, 255)
                    )
                    edge = (bottom - white[0], right - white[1])
                    level = cv2.copyMakeBorder(level, 0, edge[0], 0, edge[1], cv2.BORDER_REPLICATE)
                writer.write(
                    level,
                    tile=(256, 256),
                    photometric="rgb",
                    subfiletype=int(number > 0),
                    resolution=(10_000, 10_000),
                    resolutionunit="CENTIMETER",
                    metadata=None,
                )
        reader = open_slide(path)
        tables[fill] = tile_slide(reader.info, find_tissue(reader, TissueSpec()), TileSpec(mpp=2, size_px=32))
    assert len(tables["none"]) > 50
    for fill in ("white", "edge"):
        np.testing.assert_array_equal(tables[fill].coords, tables["none"].coords)
