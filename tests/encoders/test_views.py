"""Stain normalisation and views: what tiles look like, independently of the other tiles of a batch."""

import logging

import numpy as np
import pytest
import torch

from tests.test_stains import EOSIN, HAEMATOXYLIN, degrees, painted
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.encoders.views import View, recolour
from wsi_mil.stains import (
    MACENKO_AMOUNTS,
    MACENKO_TARGET,
    REINHARD_DEVIATION,
    REINHARD_MEAN,
    ColourMap,
    find_stains,
    optical_density,
)
from wsi_mil.stains import recolour as recolour_numpy

PALE = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])


def tissue(
    vectors: np.ndarray, gains: tuple[float, float], shape: tuple[int, ...] = (40, 64, 64)
) -> np.ndarray:
    """Return tiles of the same tissue with the stains of one laboratory."""
    rng = np.random.default_rng(5)
    amounts = rng.gamma(2.0, 0.3, (int(np.prod(shape)), 2))
    third = len(amounts) // 3
    amounts[:third, 1] *= 0.02
    amounts[third : 2 * third, 0] *= 0.02
    amounts = rng.permutation(amounts) * gains
    return painted(amounts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).reshape(*shape, 3)


OWN = np.array([HAEMATOXYLIN, EOSIN])
LITERAL = [
    [0.2605440011402507, -0.2403251237579338, -0.868478939788135],
    [-0.12728335293573198, 1.2134570795512156, 0.6460904409687284],
    [0.7455353921201298, -0.1301267598405947, 0.6537720809587291],
]
"""View 2 of slide_001 under seed 3, as earlier versions drew it."""


def test_colours_change_as_on_the_whole_slide_and_tile_by_tile() -> None:
    """Like the NumPy function tile by tile; None changes nothing; other tiles of the batch change no bit."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    matrices = [np.eye(3) + rng.normal(0, 0.15, (3, 3)) for _ in range(5)]
    maps = [ColourMap.of_density(matrix) for matrix in matrices]
    pixels = torch.from_numpy(tiles)
    found = recolour(pixels, [*maps[:4], None])
    for tile, changed, matrix in zip(tiles[:4], found, matrices, strict=False):
        expected = recolour_numpy(tile, matrix).astype(int)
        assert np.abs(changed.numpy() - expected).max() <= 1
        assert (changed.numpy() == expected).mean() > 0.99
    assert torch.equal(found[4], pixels[4])
    for row in range(4):
        assert torch.equal(recolour(pixels[row : row + 1], maps[row : row + 1])[0], found[row])


def test_macenko_gives_the_reference_stains() -> None:
    tiles = tissue(OWN, (1.0, 0.7))
    view = View("macenko")
    changed = view(torch.from_numpy(tiles), [view.colours("s", tiles)] * len(tiles)).numpy()
    before, after = find_stains(tiles), find_stains(changed)
    assert max(degrees(a, b) for a, b in zip(before, MACENKO_TARGET, strict=True)) > 5
    assert max(degrees(a, b) for a, b in zip(after, MACENKO_TARGET, strict=True)) < 3
    density = optical_density(changed).reshape(-1, 3)
    density = density[(density > 0.15).all(1)]
    amounts = np.linalg.lstsq(MACENKO_TARGET.T, density.T, rcond=None)[0]
    np.testing.assert_allclose(np.percentile(amounts, 99, axis=1), MACENKO_AMOUNTS, rtol=0.1)


def test_reinhard_gives_mean_and_deviation_of_the_reference() -> None:
    """Measured as published: responses of cones, logarithm, then mean and deviation on the three axes."""
    tiles = tissue(OWN, (0.8, 0.5))
    view = View("reinhard")
    changed = view(torch.from_numpy(tiles), [view.colours("s", tiles)] * len(tiles)).numpy()
    was_tissue = (optical_density(tiles) > 0.15).all(-1)
    r, g, b = ((changed[was_tissue][:, i] + 1.0) / 256 for i in range(3))
    cones = np.log(
        [
            0.3811 * r + 0.5783 * g + 0.0402 * b,
            0.1967 * r + 0.7244 * g + 0.0782 * b,
            0.0241 * r + 0.1288 * g + 0.8444 * b,
        ]
    )
    axes = np.array(
        [cones.sum(0) / 3**0.5, (cones[0] + cones[1] - 2 * cones[2]) / 6**0.5, (cones[0] - cones[1]) / 2**0.5]
    )
    np.testing.assert_allclose(axes.mean(1), REINHARD_MEAN, atol=0.03)
    np.testing.assert_allclose(axes.std(1), REINHARD_DEVIATION, rtol=0.15)


def test_two_laboratories_look_alike_after_macenko() -> None:
    """One tissue in two stainings: 35 % of the difference of pixels remain, 25 % of that of means."""
    one, other = tissue(OWN, (1.0, 0.8)), tissue(PALE, (0.6, 1.2))
    view = View("macenko")
    changed = [
        view(torch.from_numpy(t), [view.colours("s", t)] * len(t)).numpy().astype(int) for t in (one, other)
    ]
    before, after = one.astype(int) - other, changed[0] - changed[1]
    assert np.abs(after).mean() < 0.35 * np.abs(before).mean()
    assert np.abs(after.mean((0, 1, 2))).max() < 0.25 * np.abs(before.mean((0, 1, 2))).max()


def test_a_slide_without_tissue_keeps_its_colours(caplog: pytest.LogCaptureFixture) -> None:
    glass = np.full((4, 8, 8, 3), 250, np.uint8)
    with caplog.at_level(logging.WARNING, "wsi_mil"):
        colours = View("macenko").colours("empty", glass)
    assert colours == ()
    assert "slide empty keeps its colours" in caplog.text
    assert torch.equal(View("macenko")(torch.from_numpy(glass), [colours] * 4), torch.from_numpy(glass))


def test_views_are_the_eight_turns_and_flips_of_a_square() -> None:
    tile = np.random.default_rng(1).integers(0, 256, (1, 6, 6, 3), dtype=np.uint8)
    seen = set()
    for number in range(8):
        found = View(number=number)(torch.from_numpy(tile), [()]).numpy()
        turned = np.rot90(tile, number % 4, (1, 2))
        np.testing.assert_array_equal(found, turned[:, :, ::-1] if number >= 4 else turned)
        seen.add(found.tobytes())
    assert len(seen) == 8


def test_a_views_stains_depend_on_slide_number_and_seed_alone() -> None:
    tiles = tissue(OWN, (1.0, 0.7))
    maps = {
        key: View(number=key[1], strength=0.5, seed=key[2]).colours(key[0], tiles)[0].matrix
        for key in [("a", 1, 0), ("b", 1, 0), ("a", 2, 0), ("a", 1, 1)]
    }
    assert len({matrix.tobytes() for matrix in maps.values()}) == 4
    again = View(number=1, strength=0.5).colours("a", tiles)[0].matrix
    np.testing.assert_array_equal(again, maps["a", 1, 0])
    assert View(number=1, strength=0.0).colours("a", tiles) == ()


def test_features_of_a_view_have_a_name_and_a_digest_of_their_own() -> None:
    plain = EncoderSpec(name="texture", views=2)
    assert [spec.key for spec in (plain, *plain.augmented)] == ["texture", "texture.view1", "texture.view2"]
    assert EncoderSpec(name="texture", stain="macenko").key == "texture.macenko"
    specs = [plain, *plain.augmented, plain.model_copy(update={"stain": "reinhard"})]
    assert len({build_encoder(spec, "cpu").digest for spec in specs}) == 4
    assert build_encoder(plain, "cpu").digest == build_encoder(EncoderSpec(name="texture"), "cpu").digest


def test_the_changes_that_stored_views_were_drawn_with_stay_the_same() -> None:
    """With other numbers, stored features of views would no longer be those that their digest describes."""
    matrix = View(number=2, strength=0.5, seed=3).colours("slide_001", tissue(OWN, (1.0, 0.7)))[0].matrix
    np.testing.assert_allclose(matrix, LITERAL, rtol=1e-6)
