"""Stains as vectors of optical density: finding haematoxylin and eosin in a slide, and changing them.

The optical density of a pixel, -ln((I + 1) / 256), is C V: the amounts of the stains times the stains'
vectors (Beer-Lambert law).
Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001: fixed vectors.
Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009: vectors found
in the slide itself.
Reinhard et al., Color transfer between images, 2001: mean and deviation in the space of Ruderman et al.,
1998.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError

Vectors = NDArray[np.float64]

RUIFROK_JOHNSTON: Vectors = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
"""Unit vectors of haematoxylin and eosin, (2, 3) red, green, blue."""

MACENKO_TARGET: Vectors = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
MACENKO_AMOUNTS = np.array([1.9705, 1.0308])
"""The reference slide of Macenko's published code: unit vectors, and how much of each stain its strongest
pixels hold."""
REINHARD_MEAN = np.array([-0.863, -0.124, 0.0445])
REINHARD_DEVIATION = np.array([0.614, 0.110, 0.0286])
"""Of a breast carcinoma (Amgad et al., Structured crowdsourcing, 2019), l, alpha, beta of light as a
fraction of white."""
STRONGEST_PERCENT = 99.0

_CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_OPPONENT = np.diag(1 / np.sqrt([3, 6, 2])) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
TISSUE_OD = 0.15  # a pixel below this in any channel is glass (Macenko: beta)
EXTREME_PERCENT = 1.0  # the angle's percentile that is taken as a pure stain (Macenko: alpha)
FEWEST_PIXELS = 100
_DENSITY = -np.log((np.arange(256) + 1.0) / 256)


@dataclass(frozen=True)
class ColourMap:
    """A change of colours, affine in the logarithm of light: y -> exp(ln(y primaries) matrix + shift)
    primaries^-1.

    y (3,) is red, green, blue as a fraction of white. For stains the primaries are the identity, and ln(y) is
    minus optical density.
    """

    primaries: NDArray[np.float64]
    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def of_density(cls, matrix: NDArray[np.float64]) -> "ColourMap":
        """Return the map that multiplies optical densities by `matrix` (3, 3)."""
        return cls(np.eye(3), matrix, np.zeros(3))

    def as_lists(self) -> dict[str, list[float]]:
        """Return the numbers, for files."""
        return {name: getattr(self, name).tolist() for name in ("primaries", "matrix", "shift")}

    @classmethod
    def from_lists(cls, values: dict[str, list[float]]) -> "ColourMap":
        """Return the map that `as_lists` gave."""
        return cls(*(np.array(values[name], np.float64) for name in ("primaries", "matrix", "shift")))


def macenko_map(pixels: RGB) -> ColourMap:
    """Return the colour map that gives a slide the stains of the reference slide, in strength and in colour.

    pixels (..., 3): a sample of the slide. Density that neither stain explains is left out, as in the
    published code. Raises SlideError if there is too little tissue.
    """
    vectors = find_stains(pixels)
    density = optical_density(pixels.reshape(-1, 3))
    amounts = density @ np.linalg.inv(_with_residual(vectors))[:, :2]
    strongest = np.percentile(amounts[(density > TISSUE_OD).all(1)], STRONGEST_PERCENT, axis=0)
    gains = MACENKO_AMOUNTS / np.maximum(strongest, 1e-3)
    return ColourMap.of_density(stain_matrix(vectors, MACENKO_TARGET, gains, residual=0.0))


def reinhard_map(pixels: RGB) -> ColourMap:
    """Return the colour map that gives tissue the reference's mean and standard deviation in l, alpha, beta.

    pixels (..., 3): a sample of the slide. Raises SlideError if there is too little tissue.
    """
    tissue = _tissue(pixels)
    found = np.log((tissue + 1.0) / 256 @ _CONES.T) @ _OPPONENT.T
    scale = REINHARD_DEVIATION / np.maximum(found.std(0), 1e-3)
    back = np.linalg.inv(_OPPONENT).T
    return ColourMap(
        _CONES.T, _OPPONENT.T @ np.diag(scale) @ back, (REINHARD_MEAN - found.mean(0) * scale) @ back
    )


def jitter_map(pixels: RGB, strength: float, rng: np.random.Generator) -> ColourMap:
    """Return a colour map to stains as another laboratory might have them: vectors turned, strengths changed.

    pixels (..., 3): a sample of the slide. strength: see `shifted_stains`.
    """
    vectors = find_stains(pixels)
    return ColourMap.of_density(stain_matrix(vectors, *shifted_stains(vectors, strength, rng)))


def optical_density(pixels: RGB) -> NDArray[np.float64]:
    """Return (..., 3) optical densities of (..., 3) uint8 pixels; white is 0."""
    return np.asarray(_DENSITY[pixels])


def recolour(pixels: RGB, matrix: NDArray[np.float64]) -> RGB:
    """Return pixels whose optical densities are those of `pixels` times `matrix` (3, 3).

    >>> recolour(np.full((1, 1, 3), 100, np.uint8), np.eye(3)).tolist()
    [[[100, 100, 100]]]
    """
    density = optical_density(pixels)
    # written out: a library's matrix product may round a pixel differently in another cut of the region
    columns = [
        density[..., 0] * matrix[0, j] + density[..., 1] * matrix[1, j] + density[..., 2] * matrix[2, j]
        for j in range(3)
    ]
    light = 256 * np.exp(-np.stack(columns, -1)) - 1
    return np.asarray(np.clip(np.rint(light), 0, 255), np.uint8)


def find_stains(pixels: RGB) -> Vectors:
    """Return the unit vectors (2, 3) of haematoxylin and eosin in an image of tissue, by Macenko's method.

    Both stains lie in the plane of the two largest eigenvectors of the optical densities; the extreme
    directions in that plane are the pure stains. Haematoxylin is the one that absorbs more red. Raises
    SlideError if there is too little tissue.
    """
    density = optical_density(_tissue(pixels))
    _, axes = np.linalg.eigh(np.cov(density.T))
    plane = axes[:, [2, 1]]  # (3, 2), largest first
    plane = plane * np.where(plane[:, :1].sum() < 0, -1, 1)
    along = density @ plane
    angle = np.arctan2(along[:, 1], along[:, 0])
    low, high = np.percentile(angle, [EXTREME_PERCENT, 100 - EXTREME_PERCENT])
    found = np.array([plane @ [np.cos(a), np.sin(a)] for a in (low, high)])
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found if found[0, 0] > found[1, 0] else found[::-1], np.float64)


def _tissue(pixels: RGB) -> RGB:
    flat = pixels.reshape(-1, 3)
    tissue = flat[(optical_density(flat) > TISSUE_OD).all(1)]
    if len(tissue) < FEWEST_PIXELS:
        raise SlideError(
            f"{len(tissue)} pixels of tissue are too few to find stains in (at least {FEWEST_PIXELS}): "
            "use fixed vectors"
        )
    return tissue


def shifted_stains(
    vectors: Vectors, strength: float, rng: np.random.Generator
) -> tuple[Vectors, NDArray[np.float64]]:
    """Return random vectors (2, 3) and gains (2,) as another laboratory might have them.

    Each vector is turned by up to 25 degrees times `strength`; each stain is up to 60 % stronger or weaker.
    """
    turned = []
    for vector in vectors:
        other = np.abs(vector + rng.normal(0, 1, 3) * 0.3)
        other /= np.linalg.norm(other)
        angle = min(float(np.arccos(np.clip(vector @ other, -1, 1))), np.deg2rad(25)) * strength
        side = other - (other @ vector) * vector
        side /= max(float(np.linalg.norm(side)), 1e-12)
        turned.append(np.cos(angle) * vector + np.sin(angle) * side)
    gains = np.exp(strength * rng.uniform(0.25, 0.47, 2) * rng.choice([-1.0, 1.0], 2))
    return np.array(turned), gains


def stain_matrix(
    vectors: Vectors, other: Vectors, gains: NDArray[np.float64], residual: float = 1.0
) -> NDArray[np.float64]:
    """Return (3, 3): optical density in `vectors` to optical density in `other`, each stain times its gain.

    Density that neither stain explains, in the direction perpendicular to both, is multiplied by `residual`.
    """
    return np.asarray(
        np.linalg.inv(_with_residual(vectors)) @ np.diag([*gains, residual]) @ _with_residual(other)
    )


def _with_residual(vectors: Vectors) -> NDArray[np.float64]:
    across = np.cross(vectors[0], vectors[1])
    return np.vstack([vectors, across / np.linalg.norm(across)])
