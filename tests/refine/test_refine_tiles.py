"""Which tiles a refiner learns from: quantiles, outlines, and no slide for all."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from tests.heatmaps.test_heatmaps import INFO, table
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import DataError
from wsi_mil.features import SlideStore
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.refine.tiles import (
    Limits,
    TrainingSlide,
    _masks,
    choose_tiles,
    find_limits,
    suspicious_rows,
)

TILES = table()
N = len(TILES)


def scored(kind: str, probability: float, values: np.ndarray) -> SlideScores:
    """Scores of the first tiles of a slide."""
    classes, coords = (1 - probability, probability), TILES.coords[: len(values)]
    return SlideScores("s", probability, classes, values.astype(np.float32), kind, coords, "t", "f", "m")


def slide(
    label: int, values: np.ndarray | SlideScores, lesions: tuple[Lesion, ...] | None = None
) -> TrainingSlide:
    return TrainingSlide(
        SlideSource("s/1", None, None),
        SlideStore(Path("s.zarr"), "s/1"),
        INFO,
        TILES,
        label,
        values if isinstance(values, SlideScores) else scored("probability", 0.5, values),
        lesions,
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_limits_are_quantiles_of_normal_slides(rng: np.random.Generator) -> None:
    normal = rng.random(N)
    normal[3] = np.nan
    found = find_limits(
        [slide(0, normal), slide(1, np.ones(N))], RefineSpec(sure_above=0.9, suspicious_above=0.5), 0.3
    )
    assert found.of_slides == 0.3
    assert found.sure == pytest.approx(np.nanquantile(normal.astype(np.float32), 0.9), rel=1e-6)
    assert found.suspicious == pytest.approx(np.nanmedian(normal.astype(np.float32)), rel=1e-6)
    with pytest.raises(DataError, match="no normal training slide"):
        find_limits([slide(1, np.ones(N))], RefineSpec(), 0.5)


def test_slides_take_turns_and_half_of_the_normal_tiles_are_the_hardest(rng: np.random.Generator) -> None:
    large, small, normal = rng.uniform(0.8, 1, N), np.zeros(N), rng.uniform(0, 0.5, N)
    small[[4, 9]] = 0.9
    small[5] = np.nan
    chosen = choose_tiles(
        [slide(1, large), slide(1, small), slide(0, normal)],
        Limits(0.5, 0.1),
        RefineSpec(tiles_per_class=20),
        rng,
    )
    tumour = [(tile.slide, tile.row) for tile in chosen if tile.label == 1]
    assert len(tumour) == 20
    assert [row for number, row in tumour if number == 1] == [4, 9]
    assert len(set(tumour)) == 20
    clear = [tile.row for tile in chosen if tile.label == 0]
    assert all(tile.slide == 2 for tile in chosen if tile.label == 0)
    assert len(set(clear)) == 20
    assert set(np.argsort(-normal)[:10].tolist()) <= set(clear)


def test_outlines_overrule_the_slide_model(rng: np.random.Generator) -> None:
    x0, y0 = TILES.coords[10].astype(float)
    width, height = TILES.plan.tile_width0_px, TILES.plan.tile_height0_px
    outline = Lesion(
        "s/1", "tumour", shapely.MultiPolygon([shapely.box(x0, y0, x0 + 1.25 * width, y0 + height)])
    )
    outlined = slide(1, np.ones(N), (outline,))
    chosen = choose_tiles(
        [outlined, slide(0, np.zeros(N))], Limits(0.5, 0.1), RefineSpec(tiles_per_class=N), rng
    )
    assert [tile.row for tile in chosen if tile.label == 1] == [10]  # 11 is a quarter tumour: neither
    assert 11 not in [tile.row for tile in chosen if tile.slide == 0]
    masks = _masks(TILES, (outline,), [10, 11, 12], 32)
    assert masks[0].all()
    assert masks[1][:, :8].all()
    assert not masks[1][:, 8:].any()
    assert not masks[2].any()


def test_a_model_without_sure_tumour_tiles_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="does not separate tumour from normal"):
        choose_tiles([slide(1, np.zeros(N)), slide(0, np.zeros(N))], Limits(0.5, 0.1), RefineSpec(), rng)


def test_suspicious_tiles_bring_their_neighbours() -> None:
    probabilities = np.zeros(N, np.float32)
    columns = len(np.unique(TILES.coords[:, 0]))
    probabilities[[0, 2 * columns + 5]] = 0.9
    probabilities[1] = np.nan
    corner = [0, columns, columns + 1]
    inner = [row * columns + column for row in (1, 2, 3) for column in (4, 5, 6)]
    found = scored("probability", 0.9, probabilities)
    assert suspicious_rows(TILES, found, Limits(0.9, 0.5, 0.99)).tolist() == sorted(corner + inner)
    assert suspicious_rows(TILES, found, Limits(0.99, 0.95)).tolist() == []


def test_attention_counts_only_above_equal_weights_and_in_slides_that_are_called(
    rng: np.random.Generator,
) -> None:
    weights = np.full(N, 0.5 / N, np.float32)
    weights[:3] = (0.5 + 1.5 / N) / 3
    called, spared = scored("attention", 0.9, weights), scored("attention", 0.01, weights)
    limits = Limits(sure=1e-5, suspicious=1e-6, of_slides=0.5)  # as normal slides near 0 give them
    assert (called.tile_scores01() > limits.sure).all()
    assert np.flatnonzero(called.eligible_tiles(0.5)).tolist() == [0, 1, 2]
    assert not spared.eligible_tiles(0.5).any()
    members = [slide(1, called), slide(1, spared), slide(0, np.zeros(N))]
    chosen = choose_tiles(members, limits, RefineSpec(), rng)
    assert [(tile.slide, tile.row) for tile in chosen if tile.label == 1] == [(0, 0), (0, 1), (0, 2)]
    rows = suspicious_rows(TILES, called, limits)
    assert {0, 1, 2} < set(rows.tolist())
    assert len(rows) < N / 2
    assert suspicious_rows(TILES, spared, limits).tolist() == []


def test_attention_of_a_normal_slide_is_not_suspicious() -> None:
    values = np.array([0.1, 0.4, np.nan], np.float32)
    np.testing.assert_allclose(
        scored("attention", 0.02, values).tile_scores01(), [0.005, 0.02, np.nan], rtol=1e-6
    )
    np.testing.assert_allclose(
        scored("attention", 0.9, values).tile_scores01(), [0.225, 0.9, np.nan], rtol=1e-6
    )
    np.testing.assert_allclose(
        scored("probability", 0.02, values).tile_scores01(), [0.1, 0.4, np.nan], rtol=1e-6
    )
