"""Nuclei of normal and reactive tissue and of tumour, in µm.

Every nucleus lies wholly inside or wholly outside every lesion. So the outlines of the lesions are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.random import Generator
from numpy.typing import NDArray
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from wsi_mil.synthetic.shapes import Points, inside, jittered_grid, scattered_zones

CLEARANCE_UM = 0.5
"""Least distance between a nucleus and an outline."""


@dataclass(frozen=True)
class Nuclei:
    """n ellipses: centres (n, 2) and half axes (n, 2) in µm, angles (n,) in radians.

    darkness and clumping of chromatin: (n,), from 0 to 1. nucleolus_um: (n,), radius of the nucleolus, 0
    without one.
    """

    centre_um: Points
    axes_um: Points
    angle: NDArray[np.float64]
    darkness: NDArray[np.float64]
    clumping: NDArray[np.float64]
    nucleolus_um: NDArray[np.float64]

    def keep(self, which: NDArray[np.bool_]) -> "Nuclei":
        """Return the nuclei `which` (n,) is True for."""
        return Nuclei(
            self.centre_um[which],
            self.axes_um[which],
            self.angle[which],
            self.darkness[which],
            self.clumping[which],
            self.nucleolus_um[which],
        )


@dataclass(frozen=True)
class Gland:
    """A round gland: epithelium from `lumen_um` to `radius_um` around its centre."""

    centre_um: tuple[float, float]
    radius_um: float
    lumen_um: float


@dataclass(frozen=True)
class NucleusKind:
    """How the nuclei of one kind of cell look; pairs are the smallest and the largest value.

    radius_um: median radius. spread: standard deviation of its logarithm. aspect: length by width. nucleolus:
    fraction of nuclei that have one.
    """

    radius_um: float
    spread: float
    aspect: tuple[float, float]
    darkness: tuple[float, float]
    clumping: tuple[float, float]
    nucleolus: float = 0.0


EPITHELIUM = NucleusKind(3.4, 0.10, aspect=(1.2, 1.7), darkness=(0.5, 0.7), clumping=(0.1, 0.3))
# as dense and dark as tumour, but small, round and uniform
FOLLICLE = NucleusKind(3.0, 0.08, aspect=(1.0, 1.2), darkness=(0.7, 0.9), clumping=(0.1, 0.3))
# crowded, enlarged and basophilic, but uniform: what a model must not take for tumour
REACTIVE = NucleusKind(3.7, 0.07, aspect=(1.0, 1.35), darkness=(0.5, 0.75), clumping=(0.2, 0.4))
SPINDLE = NucleusKind(3.0, 0.15, aspect=(2.2, 4.0), darkness=(0.5, 0.75), clumping=(0.1, 0.3))
LYMPHOCYTE = NucleusKind(3.0, 0.10, aspect=(1.0, 1.3), darkness=(0.65, 0.85), clumping=(0.1, 0.3))


def tumour_kind(grade: int) -> NucleusKind:
    """Return the nuclei of a tumour of grade 1 to 3: large, uneven, clumped, more so with the grade."""
    return NucleusKind(
        radius_um=3.8 + 0.45 * grade,
        spread=0.08 + 0.07 * grade,
        aspect=(1.0, 1.3 + 0.2 * grade),
        darkness=(0.42, 0.76),
        clumping=(0.25, 0.45 + 0.15 * grade),
        nucleolus=0.05 + 0.2 * grade,
    )


def draw_nuclei(
    centre_um: Points, kind: NucleusKind, rng: Generator, angle: NDArray[np.float64] | None = None
) -> Nuclei:
    """Return a nucleus at each centre (n, 2). angle: (n,) in radians, None for random directions."""
    n = len(centre_um)
    size = kind.radius_um * np.clip(rng.lognormal(0, kind.spread, n), 0.55, 2.2)
    ratio = rng.uniform(*kind.aspect, n)
    nucleolus_um = np.where(rng.random(n) < kind.nucleolus, 0.27 * size, 0.0)
    return Nuclei(
        centre_um,
        np.stack([size * np.sqrt(ratio), size / np.sqrt(ratio)], 1),
        rng.uniform(0, np.pi, n) if angle is None else angle,
        rng.uniform(*kind.darkness, n),
        rng.uniform(*kind.clumping, n),
        nucleolus_um,
    )


def normal_nuclei(
    tissue: BaseGeometry, glands: Sequence[Gland], reactive_area: BaseGeometry, rng: Generator
) -> list[Nuclei]:
    """Return the nuclei of tissue without tumour, in groups.

    One group per gland, then lymphocytes of follicles, reactive cells, spindle cells and lymphocytes of the
    stroma. No nucleus of the last four groups lies in a gland.
    """
    epithelium = [_gland_nuclei(gland, rng) for gland in glands]
    follicles = scattered_zones(tissue, 520, 0.45, (70, 150), rng)
    lymph = jittered_grid(tissue.bounds, 9.0, rng)
    between = [draw_nuclei(lymph[inside(lymph, follicles)], FOLLICLE, rng)]
    reactive = jittered_grid(tissue.bounds, 9.6, rng)
    reactive = reactive[inside(reactive, reactive_area) & ~inside(reactive, follicles)]
    between.append(draw_nuclei(reactive, REACTIVE, rng))
    between += _stroma_nuclei(tissue, shapely.union(follicles, reactive_area), rng)
    return epithelium + [outside_glands(group, glands) for group in between]


def _gland_nuclei(gland: Gland, rng: Generator) -> Nuclei:
    """Return the epithelium of a gland: one row of nuclei around the lumen, directed outwards."""
    ring = gland.lumen_um + 0.55 * (gland.radius_um - gland.lumen_um)
    count = max(int(2 * np.pi * ring / 8.5), 4)
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1)
    away = ring + rng.normal(0, 1.6, count)
    centre = np.asarray(gland.centre_um) + away[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    return draw_nuclei(centre, EPITHELIUM, rng, turn)


def _stroma_nuclei(tissue: BaseGeometry, other: BaseGeometry, rng: Generator) -> list[Nuclei]:
    """Return sparse spindle cells and single lymphocytes of the tissue outside `other`."""
    stroma = jittered_grid(tissue.bounds, 17.0, rng)
    stroma = stroma[inside(stroma, tissue.buffer(-6)) & (rng.random(len(stroma)) < 0.75)]
    stroma = stroma[~inside(stroma, other)]
    spindle = rng.random(len(stroma)) < 0.65
    flow = 1.2 * np.sin(stroma[:, 0] / 400) + 1.2 * np.cos(stroma[:, 1] / 330)
    angle = flow[spindle] + rng.normal(0, 0.3, int(spindle.sum()))
    return [
        draw_nuclei(stroma[spindle], SPINDLE, rng, angle),
        draw_nuclei(stroma[~spindle], LYMPHOCYTE, rng),
    ]


def tumour_nuclei(outline: Polygon, grade: int, rng: Generator) -> Nuclei:
    """Return the crowded nuclei of a tumour, each wholly inside the outline."""
    kind = tumour_kind(grade)
    centre = jittered_grid(outline.bounds, 2.15 * kind.radius_um, rng)
    nuclei = draw_nuclei(centre[inside(centre, outline.buffer(-1))], kind, rng)
    edge = shapely.distance(shapely.points(nuclei.centre_um), outline.exterior)
    return nuclei.keep(edge > nuclei.axes_um.max(axis=1, initial=0) + CLEARANCE_UM)


def outside_glands(nuclei: Nuclei, glands: Sequence[Gland]) -> Nuclei:
    """Return the nuclei that do not touch their nearest gland."""
    if not glands or not len(nuclei.centre_um):
        return nuclei
    from scipy.spatial import cKDTree

    tree = cKDTree(np.array([gland.centre_um for gland in glands]))
    distance, which = tree.query(nuclei.centre_um)
    radius = np.array([gland.radius_um for gland in glands])[which]
    return nuclei.keep(distance > radius + nuclei.axes_um.max(axis=1))


def outside(nuclei: Nuclei, area: BaseGeometry) -> Nuclei:
    """Return the nuclei that do not touch `area`."""
    centres = shapely.points(nuclei.centre_um)
    return nuclei.keep(shapely.distance(centres, area) > nuclei.axes_um.max(axis=1, initial=0) + CLEARANCE_UM)
