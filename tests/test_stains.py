"""Stains: what was painted is found again; what is asked for is painted."""

import numpy as np
import pytest
from skimage.color import rgb2hed

from wsi_mil.errors import SlideError
from wsi_mil.stains import (
    RUIFROK_JOHNSTON,
    find_stains,
    optical_density,
    recolour,
    shifted_stains,
    stain_matrix,
)

HAEMATOXYLIN = np.array([0.55, 0.75, 0.37]) / np.linalg.norm([0.55, 0.75, 0.37])
EOSIN = np.array([0.15, 0.92, 0.36]) / np.linalg.norm([0.15, 0.92, 0.36])


def painted(amounts: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Pixels of known amounts of two stains, by Beer-Lambert."""
    return np.clip(np.rint(256 * np.exp(-(amounts @ vectors)) - 1), 0, 255).astype(np.uint8)


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def test_macenko_finds_the_stains_that_were_painted(rng: np.random.Generator) -> None:
    amounts = rng.gamma(2.0, 0.35, (60_000, 2))
    amounts[:20_000, 1] *= 0.02  # nuclei: nearly pure haematoxylin
    amounts[20_000:40_000, 0] *= 0.02
    found = find_stains(painted(amounts, np.array([HAEMATOXYLIN, EOSIN])).reshape(200, 300, 3))
    assert degrees(found[0], HAEMATOXYLIN) < 3
    assert degrees(found[1], EOSIN) < 3


def test_glass_has_no_stain() -> None:
    with pytest.raises(SlideError, match="too few"):
        find_stains(np.full((50, 60, 3), 245, np.uint8))


def test_a_matrix_moves_each_stain_to_the_other_laboratory(rng: np.random.Generator) -> None:
    own, other, gains = (
        np.array([HAEMATOXYLIN, EOSIN]),
        np.array([[0.8, 0.5, 0.33], [0.3, 0.9, 0.32]]),
        np.array([1.2, 0.7]),
    )
    amounts = rng.uniform(0.2, 1.0, (500, 2))
    moved = recolour(painted(amounts, own), stain_matrix(own, other, gains))
    expected = painted(amounts * gains, other)
    assert np.abs(moved.astype(int) - expected).max() <= 3  # the source is rounded to whole grey levels first


def test_gains_alone_scale_the_amounts_that_deconvolution_finds(rng: np.random.Generator) -> None:
    """Against scikit-image's deconvolution, on its own vectors."""
    from skimage.color import rgb_from_hed

    vectors = rgb_from_hed[:2] / np.linalg.norm(rgb_from_hed[:2], axis=1, keepdims=True)
    pixels = painted(rng.uniform(0.3, 0.8, (400, 2)), vectors)
    weaker = recolour(pixels, stain_matrix(vectors, vectors, np.array([0.5, 1.0])))
    before, after = rgb2hed(pixels.reshape(20, 20, 3)), rgb2hed(weaker.reshape(20, 20, 3))
    assert np.median(after[..., 0] / before[..., 0]) == pytest.approx(0.5, abs=0.02)
    assert np.median(after[..., 1] / before[..., 1]) == pytest.approx(1.0, abs=0.03)


def test_another_laboratory_is_as_far_as_its_strength() -> None:
    for strength, low, high in ((0.2, 0.5, 5.1), (1.0, 2.0, 25.1)):
        found, gains = shifted_stains(
            RUIFROK_JOHNSTON / np.linalg.norm(RUIFROK_JOHNSTON, axis=1, keepdims=True),
            strength,
            np.random.default_rng(3),
        )
        angles = [degrees(a, b / np.linalg.norm(b)) for a, b in zip(found, RUIFROK_JOHNSTON, strict=True)]
        assert all(low <= angle <= high for angle in angles)
        assert (np.abs(np.log(gains)) <= 0.48 * strength).all()


def test_white_has_no_density() -> None:
    assert optical_density(np.full((1, 1, 3), 255, np.uint8)).tolist() == [[[0.0, 0.0, 0.0]]]
