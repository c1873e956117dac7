"""The polygon form of FROC against the mask form, and by hand."""

import numpy as np
import pytest
import shapely
from shapely import MultiPolygon, Polygon

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.errors import DataError
from wsi_mil.evaluation import evaluation_mask, froc_curve, match_detections
from wsi_mil.evaluation.froc import OFFICIAL_MPP
from wsi_mil.evaluation.froc_polygons import lesion_regions, major_axis, match_in_regions
from wsi_mil.raster import rasterize


def lesion(shape: Polygon) -> Lesion:
    return Lesion("s", "tumour", MultiPolygon([shape]))


def blob(rng: np.random.Generator, x: float, y: float, radius: float) -> Polygon:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = radius * rng.uniform(0.7, 1.3, 24)
    return Polygon(np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], 1)).buffer(0)


@pytest.mark.parametrize("seed", range(4))
def test_polygons_and_mask_agree_within_a_pixel(seed: int) -> None:
    """Random slides: masks and polygons agree, except for points within a pixel of a grown outline."""
    rng = np.random.default_rng(seed)
    mpp, side = (0.25, 0.5), (60_000, 30_000)  # W != H, and pixels that are not square
    places = [
        (rng.uniform(2e3, 13e3), rng.uniform(2e3, 13e3), rng.uniform(60, 1200)) for _ in range(14)
    ]  # µm
    shapes = [shapely.transform(blob(rng, *place), lambda xy: xy / mpp) for place in places]
    lesions = [lesion(shape) for shape in shapes]
    regions = lesion_regions(lesions, *mpp)
    scale = OFFICIAL_MPP / np.array(mpp)
    shape = (int(np.ceil(side[1] / scale[1])), int(np.ceil(side[0] / scale[0])))
    tumour = rasterize(shapely.union_all([item.geometry for item in lesions]), shape, *scale)
    mask = evaluation_mask(tumour, OFFICIAL_MPP, "corrected")
    assert mask.count == len(regions.regions)
    assert len(mask.isolated) == sum(regions.isolated)
    xy_um = rng.uniform(0, 15e3, (3000, 2))
    probabilities = rng.random(3000)
    outlines = shapely.union_all([region.exterior for region in regions.regions])
    clear = shapely.distance(shapely.points(xy_um), outlines) > np.sqrt(2) * OFFICIAL_MPP
    assert clear.mean() > 0.8
    points = np.column_stack([probabilities, xy_um])[clear]
    by_polygon = match_in_regions([tuple(p) for p in points], regions)
    pixels = [(p, y / OFFICIAL_MPP, x / OFFICIAL_MPP) for p, x, y in points]
    by_mask = match_detections(pixels, mask)
    assert sorted(by_polygon.false_positives) == sorted(by_mask.false_positives)
    assert sorted(by_polygon.true_positives) == sorted(by_mask.true_positives)
    assert 0 < by_polygon.n_lesions == by_mask.n_lesions
    score = froc_curve([by_polygon], "corrected").score
    assert score == froc_curve([by_mask], "corrected").score


def test_gaps_of_75_um_close_and_holes_fill() -> None:
    def count(gap: float) -> int:
        return lesion_regions(
            [lesion(shapely.box(x, 0, x + 400, 400)) for x in (0, 400 + gap)], 1, 1
        ).n_lesions

    assert (count(74), count(76)) == (1, 2)
    ring = Polygon(shapely.box(0, 0, 3000, 3000).exterior, [shapely.box(500, 500, 2500, 2500).exterior])
    island = shapely.box(1400, 1400, 1600, 1600)
    regions = lesion_regions([lesion(ring), lesion(island)], 1, 1)
    assert regions.n_lesions == len(regions.regions) == 1
    assert match_in_regions([(0.4, 1000, 1000), (0.9, 1500, 1500)], regions).true_positives == (0.9,)


def test_isolated_cells_are_neither_hit_nor_miss() -> None:
    regions = lesion_regions(
        [lesion(shapely.box(0, 0, 100, 100)), lesion(shapely.box(2000, 0, 3000, 800))], 1, 1
    )
    assert regions.isolated == (True, False)
    found = match_in_regions([(0.8, 50, 50), (0.7, 2500, 400), (0.6, 9000, 9000)], regions)
    assert (found.false_positives, found.true_positives, found.n_lesions) == ((0.6,), (0.0, 0.7), 1)
    with pytest.raises(DataError, match="slide 'x': 1 detections are not finite"):
        match_in_regions([(0.8, float("nan"), 50)], regions, "x")


def test_major_axis_of_a_rectangle_is_known() -> None:
    """Variance of a side of length a: a squared over 12."""
    assert major_axis(shapely.box(5, 7, 305, 107)) == pytest.approx(4 * 300 / np.sqrt(12))
