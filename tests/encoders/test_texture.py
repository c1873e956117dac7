"""The statistics of `texture` against their definitions in numpy and scipy, in double precision."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.encoders.models import texture

Plane = NDArray[np.float64]


def stain_planes(tile: NDArray[np.uint8]) -> list[Plane]:
    """Return haematoxylin, eosin and mean density by least squares (Ruifrok and Johnston 2001)."""
    density = -np.log10((tile.astype(np.float64) + 1) / 256)
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    amounts = np.linalg.lstsq(stains.T, density.reshape(-1, 3).T, rcond=None)[0]
    return [*amounts[:2].reshape(2, *tile.shape[:2]), density.mean(-1)]


def at_one_scale(plane: Plane) -> list[float]:
    """Return contrast, mean and spread of spots, edges, their coherence, and skewness."""
    deviation = np.sqrt(plane.var() + 1e-6)
    spot = plane - uniform_filter(plane, 3, mode="nearest")
    dx, dy = plane[:-1, 1:] - plane[:-1, :-1], plane[1:, :-1] - plane[:-1, :-1]
    tensor = np.array([[np.mean(dx * dx), np.mean(dx * dy)], [np.mean(dx * dy), np.mean(dy * dy)]])
    low, high = np.linalg.eigvalsh(tensor)
    skewness = np.tanh(np.mean((plane - plane.mean()) ** 3) / (deviation**3 + 1e-4))
    coherence = np.hypot(high - low, 1e-6) / (np.trace(tensor) + 1e-6)
    edges = np.sqrt(np.trace(tensor) + 1e-6)
    return [
        float(value)
        for value in (
            *(deviation, spot[spot > 0].sum() / spot.size, np.sqrt(np.mean(spot**2) + 1e-6)),
            *(edges, coherence, skewness),
        )
    ]


def correlation(plane: Plane, lag: int) -> float:
    centred, total = plane - plane.mean(), plane.var() + 1e-6 + 1e-4
    across, down = centred[:, lag:] * centred[:, :-lag], centred[lag:] * centred[:-lag]
    return float((across.mean() + down.mean()) / 2 / total)


def expected(tile: NDArray[np.uint8]) -> list[float]:
    planes, found = stain_planes(tile), []
    levels = planes
    for scale in range(4):
        found += np.transpose([at_one_scale(level) for level in levels]).ravel().tolist()
        if scale == 0:
            found += [float(plane.mean()) for plane in planes]
            found += [correlation(plane, lag) for lag in (1, 2, 4) for plane in planes]
        shapes = [[side // 2 * 2 for side in level.shape] for level in levels]
        levels = [
            level[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
            for level, (height, width) in zip(levels, shapes, strict=True)
        ]
    first, second = planes[0], planes[1]
    found.append(float(np.mean((first - first.mean()) * (second - second.mean())) * 10))
    found.append(float(np.maximum(first - second, 0).mean()))
    centres = np.linspace(-0.1, 1.3, 10)
    for plane in planes[:2]:
        near = 1 - np.abs(plane.clip(-0.1, 1.3)[..., None] - centres) / (centres[1] - centres[0])
        found += np.maximum(near, 0).mean((0, 1)).tolist()
    return found


@pytest.mark.parametrize("size_px", [16, 27, 96])
def test_texture_is_what_its_definitions_say(size_px: int) -> None:
    rng = np.random.default_rng(size_px)
    noise = rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    pale = rng.integers(225, 245, (size_px, size_px, 3), dtype=np.uint8)
    stripes = np.tile(rng.integers(60, 250, (1, size_px, 3), dtype=np.uint8), (size_px, 1, 1))
    tiles = np.stack([noise, pale, stripes])
    found = build_encoder(EncoderSpec(), "cpu").encode(torch.from_numpy(tiles)).numpy()
    assert found.shape == (3, 106)
    np.testing.assert_allclose(found, [expected(tile) for tile in tiles], rtol=0, atol=2e-5)


def test_tiles_are_taken_together_only_as_far_as_the_cache_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder(EncoderSpec(), "cpu")
    tiles = torch.randint(0, 256, (7, 32, 32, 3), dtype=torch.uint8)
    together = encoder.encode(tiles)
    sizes: list[int] = []
    whole = texture.texture_statistics

    def counted(channels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(channels))
        return whole(channels)

    monkeypatch.setattr(texture, "CACHED_PX", 3 * 32 * 32 + 5)
    monkeypatch.setattr(texture, "texture_statistics", counted)
    assert torch.equal(encoder.encode(tiles), together)
    assert sizes == [3, 3, 1]
