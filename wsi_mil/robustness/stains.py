"""Haematoxylin and eosin as vectors of optical density: found in a slide, and changed.

Optical density OD = -ln((I + 1) / 256) of a pixel is C V: how much of each stain times the stains' vectors (Beer-Lambert).
Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001: fixed vectors.
Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009: vectors of the slide itself.
"""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError

Vectors = NDArray[np.float64]

RUIFROK_JOHNSTON: Vectors = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
"""Unit vectors of haematoxylin and eosin, (2, 3) red, green, blue."""

TISSUE_OD = 0.15  # a pixel below this in any channel is glass (Macenko: beta)
EXTREME_PERCENT = 1.0  # the angle's percentile that stands for a pure stain (Macenko: alpha)
FEWEST_PIXELS = 100
_DENSITY = -np.log((np.arange(256) + 1.0) / 256)


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

    The plane of the two largest eigenvectors of the optical densities holds both stains; the extreme directions in it are
    the pure ones. Haematoxylin is the one that takes more red. Raises SlideError if there is next to no tissue.
    """
    density = optical_density(pixels.reshape(-1, 3))
    density = density[(density > TISSUE_OD).all(1)]
    if len(density) < FEWEST_PIXELS:
        raise SlideError(
            f"{len(density)} pixels of tissue are too few to find stains in (at least {FEWEST_PIXELS}): use fixed vectors"
        )
    _, axes = np.linalg.eigh(np.cov(density.T))
    plane = axes[:, [2, 1]]  # (3, 2), largest first
    plane = plane * np.where(plane[:, :1].sum() < 0, -1, 1)
    along = density @ plane
    angle = np.arctan2(along[:, 1], along[:, 0])
    low, high = np.percentile(angle, [EXTREME_PERCENT, 100 - EXTREME_PERCENT])
    found = np.array([plane @ [np.cos(a), np.sin(a)] for a in (low, high)])
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found if found[0, 0] > found[1, 0] else found[::-1], np.float64)


def shifted_stains(vectors: Vectors, strength: float, rng: np.random.Generator) -> tuple[Vectors, NDArray[np.float64]]:
    """Return another laboratory's vectors (2, 3) and gains (2,): each vector turned by up to 25 degrees times `strength`,
    each stain up to 60 % stronger or weaker."""
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


def stain_matrix(vectors: Vectors, other: Vectors, gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (3, 3): optical density in `vectors` to optical density in `other`, each stain times its gain.

    What neither stain explains (the direction across both) stays as it is.
    """
    return np.asarray(np.linalg.inv(_with_residual(vectors)) @ np.diag([*gains, 1.0]) @ _with_residual(other))


def _with_residual(vectors: Vectors) -> NDArray[np.float64]:
    across = np.cross(vectors[0], vectors[1])
    return np.vstack([vectors, across / np.linalg.norm(across)])
