"""Stained slides: the same pixels however a region is cut, at every level; nothing outside the poison;
nothing on tumour.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.robustness import PoisonedSlide, PoisonPlan, PoisonSpec, poison_slide
from wsi_mil.robustness.poison.kinds import POISONS
from wsi_mil.slides import ArrayReader, SlideReader, open_slide
from wsi_mil.synthetic.writing import write_pyramid
from wsi_mil.testing.readers import ReaderSuite
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

KINDS = list(POISONS)
WIDTH, HEIGHT = 448, 320
LESION = MultiPolygon([shapely.Polygon([(150, 90), (260, 110), (230, 200), (140, 170)])])


@cache
def tissue_image() -> RGB:
    """Pink and blue, smooth, with glass in a corner: every channel of its own."""
    rng = np.random.default_rng(5)
    small = rng.uniform([120, 60, 120], [230, 170, 220], (HEIGHT // 16, WIDTH // 16, 3))
    image = np.clip(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 255).astype(
        np.uint8
    )
    image[:60, :70] = 243
    return image


def array_slide() -> ArrayReader:
    return ArrayReader(tissue_image(), mpp=0.5, slide_id="slide", downsamples=(1, 2, 4))


def tiles_of(slide: SlideReader, size_px: int = 32, stride_px: int | None = None) -> TileTable:
    spec = TileSpec(mpp=0.5, size_px=size_px, stride_px=stride_px)
    return tile_slide(slide.info, find_tissue(slide, TissueSpec(method="whole")), spec)


def poisoned(
    spec: PoisonSpec, reader: SlideReader | None = None, lesions: MultiPolygon | None = LESION
) -> PoisonedSlide:
    reader = reader or array_slide()
    return poison_slide(reader, tiles_of(reader), spec, lesions)


def level_size(slide: SlideReader, level: int) -> tuple[int, int]:
    return slide.info.level_sizes_px[level]


def whole(slide: SlideReader, level: int = 0) -> RGB:
    return slide.read_region(0, 0, level, *level_size(slide, level))


class TestPoisonedReader(ReaderSuite):
    """A poisoned slide is a reader like any other; its truth is what it gives when each level is read in one
    piece.
    """

    def open(self) -> SlideReader:
        return poisoned(PoisonSpec(coverage=0.3))

    def truth(self) -> list[RGB]:
        with self.open() as slide:
            return [whole(slide, level) for level in range(3)]

    def test_region_over_the_edge_is_white_outside(self) -> None:
        super().test_region_over_the_edge_is_white_outside()


@pytest.fixture(scope="module")
def fractional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose second level is smaller by no whole number: OpenSlide interpolates between its pixels."""
    path = tmp_path_factory.mktemp("odd") / "slide.tiff"
    image = np.ascontiguousarray(tissue_image()[:-1, :-1])
    write_pyramid(path, np.tile(image, (3, 3, 1)), (0.5, 0.5), factor=4, quality=85, smallest_px=100)
    return path


def differing_pixels(
    slide: SlideReader, level: int, box: tuple[int, int, int, int], cut: tuple[int, int]
) -> int:
    """Pixels in which a region read at once differs from the same region read in four parts."""
    x, y, width, height = box
    down_x, down_y = (
        slide.info.width_px / level_size(slide, level)[0],
        slide.info.height_px / level_size(slide, level)[1],
    )

    def read(left: int, top: int, w: int, h: int) -> RGB:
        return slide.read_region(round(left * down_x), round(top * down_y), level, w, h)

    a, b = cut
    upper = np.hstack([read(x, y, a, b), read(x + a, y, width - a, b)])
    lower = np.hstack([read(x, y + b, a, height - b), read(x + a, y + b, width - a, height - b)])
    return int((read(x, y, width, height) != np.vstack([upper, lower])).any(2).sum())


@st.composite
def regions(draw: st.DrawFn, width: int, height: int) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    w, h = draw(st.integers(2, min(width, 160))), draw(st.integers(2, min(height, 120)))
    x, y = draw(st.integers(-10, width - w + 10)), draw(st.integers(-10, height - h + 10))
    return (x, y, w, h), (draw(st.integers(1, w - 1)), draw(st.integers(1, h - 1)))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_pixels_do_not_depend_on_how_a_region_is_cut(kind: str, data: st.DataObject) -> None:
    coverage = data.draw(st.sampled_from([0.1, 0.5, 1.0]))
    slide = poisoned(
        PoisonSpec(kind=kind, coverage=coverage, strength=data.draw(st.sampled_from([0.2, 1.0])))
    )
    level = data.draw(st.integers(0, 2))
    box, cut = data.draw(regions(*level_size(slide, level)))
    assert differing_pixels(slide, level, box, cut) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", ["openslide", "tiffslide"])
def test_the_same_holds_for_files_with_an_odd_pyramid(kind: str, reader: str, fractional: Path) -> None:
    rng = np.random.default_rng(1)
    with poisoned(PoisonSpec(kind=kind, coverage=0.4), open_slide(fractional, reader=reader)) as slide:
        assert len(slide.info.level_sizes_px) == 2
        assert not (slide.info.width_px / level_size(slide, 1)[0]).is_integer()
        for level in (0, 1):
            width, height = level_size(slide, level)
            for _ in range(8):
                w, h = int(rng.integers(2, 90)), int(rng.integers(2, 90))
                box = (int(rng.integers(0, width - w)), int(rng.integers(0, height - h)), w, h)
                assert (
                    differing_pixels(slide, level, box, (int(rng.integers(1, w)), int(rng.integers(1, h))))
                    == 0
                )


class Careless(PoisonedSlide):
    """Deliberately wrong: paints the window that is asked for, not the place on the slide."""

    def _read(
        self, handle: SlideReader, level: int, x_px: int, y_px: int, width_px: int, height_px: int
    ) -> RGB:
        pixels = handle.read_region(x_px, y_px, level, width_px, height_px)
        pixels[: height_px // 2] = (40, 190, 60)
        return pixels


def test_a_careless_painter_is_seen() -> None:
    good = poisoned(PoisonSpec())
    assert differing_pixels(Careless(good.reader, good.plan), 0, (10, 10, 50, 40), (20, 15)) > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("placement", ["off_tumour", "anywhere"])
def test_pixels_outside_the_poison_are_unchanged(kind: str, placement: str) -> None:
    spec = PoisonSpec(kind=kind, coverage=0.3, placement=placement)
    slide = poisoned(spec)
    for level in range(3):
        plain, stained = whole(slide.reader, level), whole(slide, level)
        width, height = level_size(slide, level)
        down = WIDTH / width
        columns, rows = np.meshgrid((np.arange(width) + 0.5) * down, (np.arange(height) + 0.5) * down)
        # a pixel is outside if its centre lies more than half its diagonal from the area
        outside = ~shapely.contains_xy(slide.plan.area.buffer(0.75 * down), columns, rows)
        assert outside.mean() > 0.2
        np.testing.assert_array_equal(stained[outside], plain[outside])
        inside = shapely.contains_xy(slide.plan.area.buffer(-0.75 * down), columns, rows)
        assert (stained != plain).any(2)[inside].mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("coverage", [0.9, 1.0])
def test_tumour_is_never_touched(kind: str, coverage: float) -> None:
    slide = poisoned(PoisonSpec(kind=kind, coverage=coverage))
    for level in range(3):
        width, height = level_size(slide, level)
        down = WIDTH / width
        columns, rows = np.arange(width), np.arange(height)
        corners = [
            shapely.contains_xy(LESION, *np.meshgrid((columns + dx) * down, (rows + dy) * down))
            for dx in (0.05, 0.95)
            for dy in (0.05, 0.95)
        ]
        on_lesion = np.any(corners, axis=0)
        assert on_lesion.sum() > 20
        np.testing.assert_array_equal(whole(slide, level)[on_lesion], whole(slide.reader, level)[on_lesion])
    assert (whole(slide) != whole(slide.reader)).any()


@pytest.mark.parametrize(("kind", "tolerance"), [("noise", 2.0), ("chip", 2.0), ("pen", 3.0), ("cast", 2.0)])
def test_coarse_levels_show_what_level_0_averages_to(kind: str, tolerance: float) -> None:
    """The array's levels are exact averages of level 0, so those of the poisoned slide must be, too."""
    slide = poisoned(PoisonSpec(kind=kind, coverage=0.3), lesions=None)
    fine = whole(slide).astype(np.float32)
    for level, down in ((1, 2), (2, 4)):
        averaged = fine.reshape(HEIGHT // down, down, WIDTH // down, down, 3).mean((1, 3))
        error = np.abs(whole(slide, level).astype(np.float32) - averaged)
        assert error.mean() < 0.6
        assert np.quantile(error, 0.99) < tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_everything(kind: str) -> None:
    spec = PoisonSpec(kind=kind, coverage=0.2)
    first, again = whole(poisoned(spec)), whole(poisoned(spec))
    np.testing.assert_array_equal(first, again)
    other = whole(poisoned(spec.model_copy(update={"seed": 1})))
    assert (first != other).any()


def test_two_slides_are_poisoned_at_different_places_in_the_same_colour() -> None:
    pixels, spec = tissue_image(), PoisonSpec(kind="stain", coverage=0.2)
    slides = [ArrayReader(pixels, mpp=0.5, slide_id=name) for name in ("a", "b")]
    a, b = (poison_slide(slide, tiles_of(slide), spec, macenko=False) for slide in slides)
    assert not np.array_equal(a.plan.patches, b.plan.patches)
    both = shapely.contains_xy(
        shapely.intersection(a.plan.area, b.plan.area).buffer(-1),
        *np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)),
    )
    assert both.sum() > 100
    np.testing.assert_array_equal(whole(a)[both], whole(b)[both])


@pytest.mark.parametrize("kind", KINDS)
def test_more_strength_changes_more(kind: str) -> None:
    plain = tissue_image().astype(int)
    changes = [
        np.abs(whole(poisoned(PoisonSpec(kind=kind, coverage=0.5, strength=s))) - plain).mean()
        for s in (0.1, 0.5, 1.0)
    ]
    assert changes == sorted(changes)
    assert changes[0] < changes[2]


def test_values_of_one_pixel_of_each_plain_kind() -> None:
    """By hand: a grey pixel of 200 under ink, a cast, and noise of opacity one half."""

    def plan_of(spec: PoisonSpec) -> PoisonPlan:
        return PoisonPlan("array", spec, (8, 4), (0.5, 0.5), np.array([[0, 0, 8, 4]]))

    grey = ArrayReader(np.full((4, 8, 3), 200, np.uint8), mpp=0.5)
    cast = whole(PoisonedSlide(grey, plan_of(PoisonSpec(kind="cast", colour=(100, 200, 50), strength=0.5))))
    # light 0.5, 1, 0.25 of the brightest; half of a depth of 0.35
    assert cast[2, 3].tolist() == [round(200 * (1 - 0.175 * 0.5)), 200, round(200 * (1 - 0.175 * 0.75))]
    full = whole(PoisonedSlide(grey, plan_of(PoisonSpec(colour=(40, 190, 60))))).astype(int)
    half = whole(PoisonedSlide(grey, plan_of(PoisonSpec(colour=(40, 190, 60), strength=0.5)))).astype(int)
    assert np.abs(half - (full + 200) / 2).max() <= 1
    assert (
        np.abs(full.mean((0, 1)) - 0.85 * np.array([40, 190, 60])).max() < 45
    )  # grains: 0.35 to 1.35 of the colour


def test_closing_closes_the_slide_inside() -> None:
    slide = poisoned(PoisonSpec())
    slide.close()
    with pytest.raises(Exception, match="closed"):
        slide.reader.read_region(0, 0, 0, 4, 4)
