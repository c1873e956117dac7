"""Tissue against known truth, cleaning by physical area, and outlines that a user edited."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from wsi_mil import limits
from wsi_mil.contracts.slide import Bounds
from wsi_mil.errors import DataError
from wsi_mil.raster import rasterize
from wsi_mil.slides import ArrayReader, open_slide, read_scaled
from wsi_mil.synthetic import Scanner, draw_anatomy, paint
from wsi_mil.tissue import TissueSpec, draw_preview, find_tissue, read_tissue, write_tissue
from wsi_mil.tissue.segmentation import drop_small, segment

PINK, GLASS = (225, 150, 190), (243, 242, 244)


def glass(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GLASS, np.uint8)


def disc_slide(mpp: float | tuple[float, float] = 1.0, bounds: Bounds | None = None) -> ArrayReader:
    """A piece of 1,000 x 600 px with a hole of 200 x 150 px on a slide of 1,600 x 1,100 px."""
    image = glass(1600, 1100)
    image[200:800, 300:1300] = PINK
    image[400:550, 600:800] = GLASS
    return ArrayReader(image, mpp=mpp, slide_id="disc", bounds=bounds)


@pytest.mark.parametrize("method", ["auto", "otsu", "threshold"])
def test_area_and_place(method: str) -> None:
    tissue = find_tissue(disc_slide(), TissueSpec(method=method, blur_um=0, close_um=0))
    assert tissue.polygons.area == pytest.approx(1000 * 600 - 200 * 150, rel=0.03)
    assert tissue.polygons.bounds == pytest.approx((300, 200, 1300, 800), abs=10)
    assert len(tissue.polygons.geoms[0].interiors) == 1


def test_pixels_that_are_not_square() -> None:
    tissue = find_tissue(disc_slide(mpp=(1.0, 2.0)), TissueSpec(blur_um=0, close_um=0))
    assert tissue.scale_x_px == 8
    assert tissue.scale_y_px == 4
    assert tissue.polygons.bounds == pytest.approx((300, 200, 1300, 800), abs=10)


def test_cleaning_is_in_physical_areas() -> None:
    holes = find_tissue(disc_slide(), TissueSpec(blur_um=0, close_um=0, min_hole_um2=31_000))
    assert not holes.polygons.geoms[0].interiors
    assert find_tissue(disc_slide(), TissueSpec(min_area_mm2=0.7)).polygons.is_empty
    assert not find_tissue(disc_slide(), TissueSpec(min_area_mm2=0.5)).polygons.is_empty
    # the same pixels at half the mpp are a quarter of the area
    assert find_tissue(disc_slide(0.5), TissueSpec(mpp=4, min_area_mm2=0.2)).polygons.is_empty


def test_small_pieces_by_pixels() -> None:
    mask = np.zeros((6, 9), bool)
    mask[1, 1:3] = mask[3:5, 5:8] = True
    np.testing.assert_array_equal(drop_small(mask, 3), mask & (np.arange(6) > 2)[:, None])


def test_synthetic_slide_against_its_truth() -> None:
    anatomy = draw_anatomy(1500, 1200, [], np.random.default_rng(1), np.random.default_rng(2))
    slide = ArrayReader(paint(anatomy, Scanner("c", 1.0), np.random.default_rng(3)), mpp=1.0)
    found = find_tissue(slide, TissueSpec())
    truth = rasterize(anatomy.tissue, found.mask.shape, found.scale_x_px, found.scale_y_px)
    overlap = (found.mask & truth).sum() / (found.mask | truth).sum()
    assert overlap > 0.95


def test_empty_glass_gives_no_tissue_and_pen_is_not_tissue() -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(glass(900, 700) + rng.normal(0, 2, (700, 900, 3)), 0, 255).astype(np.uint8)
    assert find_tissue(ArrayReader(noisy, mpp=1.0), TissueSpec()).polygons.is_empty
    noisy[100:300, 100:500] = (30, 120, 70)
    assert find_tissue(ArrayReader(noisy, mpp=1.0), TissueSpec()).polygons.is_empty
    assert not find_tissue(ArrayReader(noisy, mpp=1.0), TissueSpec(ink=False)).polygons.is_empty


def test_real_slide(real_slide: Path) -> None:
    with open_slide(real_slide) as slide:
        tissue = find_tissue(slide, TissueSpec())
        share = tissue.polygons.area / (slide.info.width_px * slide.info.height_px)
        # the glass is all but white there: what is not tissue must be much brighter
        grey = read_scaled(slide, tissue.mpp).mean(axis=2)
        assert 0.2 < share < 0.8
        assert grey[~tissue.mask].mean() > grey[tissue.mask].mean() + 25


def test_whole_slide() -> None:
    tissue = find_tissue(disc_slide(), TissueSpec(method="whole"))
    assert tissue.mask.all()
    assert tissue.polygons.area == 1600 * 1100


@pytest.mark.parametrize("bounds", [None, Bounds(120, 80, 1400, 1000)])
def test_what_is_written_reads_back(tmp_path: Path, bounds: Bounds | None) -> None:
    slide, spec = disc_slide(bounds=bounds), TissueSpec()
    tissue = find_tissue(slide, spec)
    write_tissue(tmp_path / "t.geojson", tissue, slide.info, spec)
    again = read_tissue(tmp_path / "t.geojson", slide.info, spec)
    assert again is not None
    assert (again.source, again.how) == ("auto", tissue.how)
    assert again.how.endswith("glass (243, 242, 244)")
    assert again.polygons.symmetric_difference(tissue.polygons).area < 1
    first = json.loads((tmp_path / "t.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    shift = 120 if bounds else 0  # in the frame that QuPath shows (Q34)
    assert min(x for x, _ in first) == pytest.approx(300 - shift, abs=10)


def test_other_settings_mean_that_tissue_is_found_again(tmp_path: Path) -> None:
    slide = disc_slide()
    write_tissue(tmp_path / "t.geojson", find_tissue(slide, TissueSpec()), slide.info, TissueSpec())
    assert read_tissue(tmp_path / "t.geojson", slide.info, TissueSpec(close_um=8)) is None
    assert read_tissue(tmp_path / "none.geojson", slide.info, TissueSpec()) is None


@pytest.mark.parametrize("keeps_our_member", [True, False])
@pytest.mark.parametrize("bounds", [None, Bounds(120, 80, 1400, 1000)])
def test_an_edited_outline_is_taken_whatever_the_settings(
    tmp_path: Path, keeps_our_member: bool, bounds: Bounds | None
) -> None:
    slide, path = disc_slide(bounds=bounds), tmp_path / "t.geojson"
    write_tissue(path, find_tissue(slide, TissueSpec()), slide.info, TissueSpec())
    value = json.loads(path.read_text())
    value["features"] = [
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(shapely.box(380, 320, 580, 420))),
            "properties": {},
        },
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(shapely.box(380, 320, 480, 420))),
            "properties": {"classification": {"name": "Ignore*"}},
        },
    ]
    if not keeps_our_member:
        del value["wsi_mil"]
    path.write_text(json.dumps(value))
    tissue = read_tissue(path, slide.info, TissueSpec(method="threshold"))
    assert tissue is not None
    assert (tissue.source, tissue.how) == ("user", "tissue outline edited by hand: 1 outline")
    offset = (120, 80) if bounds else (0, 0)
    expected = shapely.box(480 + offset[0], 320 + offset[1], 580 + offset[0], 420 + offset[1])
    assert tissue.polygons.equals(expected)
    assert tissue.mask.sum() * 64 == pytest.approx(100 * 100, rel=0.2)
    picture = draw_preview(read_scaled(slide, 4.0), slide.info, tissue)
    assert (
        picture != draw_preview(read_scaled(slide, 4.0), slide.info, find_tissue(slide, TissueSpec()))
    ).any()


def test_polygons_of_another_slide_are_refused_with_both_extents(tmp_path: Path) -> None:
    path = tmp_path / "t.geojson"
    geometry = json.loads(shapely.to_geojson(shapely.box(9000, 9000, 9100, 9100)))
    path.write_text(
        json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry}]})
    )
    with pytest.raises(DataError, match=r"9000.*1600 x 1100"):
        read_tissue(path, disc_slide().info, TissueSpec())


@pytest.mark.parametrize("method", ["auto", "otsu", "threshold"])
def test_images_of_a_few_pixels_have_a_mask_of_their_size(method: str) -> None:
    """A slide of 16 px is one pixel at the scale of tissue."""
    rng = np.random.default_rng(0)
    for height in range(1, 6):
        for width in range(1, 6):
            for image in (np.full((height, width, 3), 255), rng.integers(0, 256, (height, width, 3))):
                mask, _ = segment(image.astype(np.uint8), TissueSpec(method=method), mpp=8.0)
                assert (mask.shape, mask.dtype) == ((height, width), bool)


def test_outlines_with_too_many_points_are_refused_before_they_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, path = disc_slide(), tmp_path / "t.geojson"
    write_tissue(path, find_tissue(slide, TissueSpec()), slide.info, TissueSpec())
    monkeypatch.setattr(limits, "POINTS", replace(limits.POINTS, most=3))
    with pytest.raises(
        DataError, match=rf"t\.geojson: its outlines: .* {limits.POINTS.what}, at most 3 .*restore"
    ):
        read_tissue(path, slide.info, TissueSpec())
