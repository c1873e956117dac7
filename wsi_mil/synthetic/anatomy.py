"""What is on a synthetic slide, in µm: tissue, glands, reactive zones, lesions, and every nucleus.

Pixels are the matter of `painting`. The outlines of the lesions are exact: no nucleus crosses them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.random import Generator
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from wsi_mil.synthetic.nuclei import Gland, Nuclei, normal_nuclei, outside, outside_glands, tumour_nuclei
from wsi_mil.synthetic.shapes import Points, blob, inside, jittered_grid, scattered_zones

LESION_UM = {"itc": (60.0, 170.0), "micro": (260.0, 1100.0), "macro": (2050.0, 2600.0)}
"""Kind of lesion -> smallest and largest length."""
TISSUE_MARGIN_UM = 30.0
LESION_DISTANCE_UM = 160.0
"""Least distance between two lesions, so that they stay separate detections."""
ATTEMPTS = 200


@dataclass(frozen=True)
class DrawnLesion:
    """An outline in µm, and the grade of malignancy: from 1 (close to normal nuclei) to 3."""

    outline: Polygon
    grade: int

    @property
    def diameter_um(self) -> float:
        """The longer side of the smallest rotated rectangle around the outline."""
        corners = shapely.get_coordinates(shapely.oriented_envelope(self.outline))
        return float(np.linalg.norm(np.diff(corners, axis=0), axis=1).max())

    @property
    def kind(self) -> str:
        """By the rule of the TNM system: "itc" below 0.2 mm, "micro" up to 2 mm, "macro" above."""
        return "itc" if self.diameter_um < 200 else "micro" if self.diameter_um <= 2000 else "macro"


@dataclass(frozen=True)
class Anatomy:
    """One slide. reactive: the area of reactive zones. pen: lines of a pen, each as points (n, 2) in µm."""

    width_um: float
    height_um: float
    tissue: BaseGeometry
    glands: list[Gland] = field(default_factory=list)
    nuclei: list[Nuclei] = field(default_factory=list)
    lesions: list[DrawnLesion] = field(default_factory=list)
    reactive: BaseGeometry = field(default_factory=Polygon)
    pen: list[Points] = field(default_factory=list)


def draw_anatomy(
    width_um: float,
    height_um: float,
    lesions: Sequence[tuple[str, int]],
    tissue_rng: Generator,
    lesion_rng: Generator,
    pen: bool = False,
    empty: bool = False,
) -> Anatomy:
    """Return a slide with lesions of these kinds and grades; a lesion that does not fit is left out.

    pen: with a pen mark. empty: glass without tissue. The normal tissue depends on `tissue_rng` alone, so the
    same generator gives the same slide outside the outlines, with and without lesions.

    >>> slide = draw_anatomy(900, 700, [("itc", 2)], np.random.default_rng(0), np.random.default_rng(1))
    >>> [lesion.kind for lesion in slide.lesions]
    ['itc']
    """
    if empty:
        return Anatomy(width_um, height_um, Polygon())
    tissue = _tissue(width_um, height_um, tissue_rng)
    glands = _glands(tissue, tissue_rng)
    reactive = scattered_zones(tissue, 700, 0.5, (80, 220), tissue_rng)
    normal = normal_nuclei(tissue, glands, reactive, tissue_rng)
    strokes = [_pen_stroke(width_um, height_um, tissue_rng)] if pen else []
    drawn = _lesions(tissue, lesions, lesion_rng)
    if drawn:
        area = shapely.union_all([lesion.outline for lesion in drawn])
        shapely.prepare(area)
        cut = [g for g in glands if area.intersects(shapely.Point(g.centre_um).buffer(g.radius_um + 3))]
        glands = [gland for gland in glands if gland not in cut]
        normal = [outside(outside_glands(nuclei, cut), area) for nuclei in normal]
        normal += [tumour_nuclei(lesion.outline, lesion.grade, lesion_rng) for lesion in drawn]
    return Anatomy(width_um, height_um, tissue, glands, normal, drawn, reactive, strokes)


def _tissue(width_um: float, height_um: float, rng: Generator) -> BaseGeometry:
    """Return one piece of tissue with a hole, which fills about half of the glass."""
    centre = np.array([width_um, height_um]) * (0.5 + rng.uniform(-0.04, 0.04, 2))
    aspect = width_um / height_um
    angle = np.linspace(0, 2 * np.pi, 181)[:-1]
    radius = np.ones_like(angle)
    for order in range(2, 9):
        radius += 0.16 / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    half = 0.43 * np.array([width_um, height_um])
    main = Polygon(
        centre + np.clip(radius, 0.7, 1.08)[:, None] * half * np.stack([np.cos(angle), np.sin(angle)], 1)
    )
    hole = blob(centre + rng.uniform(-0.2, 0.2, 2) * half, rng.uniform(90, 160), aspect, 0.3, rng)
    frame = shapely.box(0, 0, width_um, height_um).buffer(-20)
    return shapely.intersection(shapely.difference(main.buffer(0), hole), frame)


def _glands(tissue: BaseGeometry, rng: Generator) -> list[Gland]:
    """Return random glands well inside the tissue."""
    centres = jittered_grid(tissue.bounds, 190, rng)
    keep = rng.random(len(centres)) < 0.55
    radii = rng.uniform(32, 62, len(centres))
    lumens = rng.uniform(0.25, 0.5, len(centres))
    deep = inside(centres, tissue.buffer(-80))
    return [
        Gland((float(c[0]), float(c[1])), float(r), float(r * fraction))
        for c, r, fraction, k, d in zip(centres, radii, lumens, keep, deep, strict=True)
        if k and d
    ]


def _lesions(tissue: BaseGeometry, wanted: Sequence[tuple[str, int]], rng: Generator) -> list[DrawnLesion]:
    """Return the lesions of `wanted` (kind, grade) that fit into the tissue, in this order."""
    free = tissue.buffer(-TISSUE_MARGIN_UM)
    drawn: list[DrawnLesion] = []
    for kind, grade in wanted:
        low, high = LESION_UM[kind]
        for _ in range(ATTEMPTS):
            x0, y0, x1, y1 = free.bounds
            centre = rng.uniform((x0, y0), (x1, y1))
            aspect = rng.uniform(1.0, 1.9)
            length_um = rng.uniform(low, high)
            outline = blob(centre, length_um / 2 / np.sqrt(aspect), aspect, 0.3, rng)
            clipped = shapely.intersection(outline, free)
            if not isinstance(clipped, Polygon) or clipped.area < 0.6 * outline.area or clipped.interiors:
                continue
            if any(lesion.outline.distance(clipped) < LESION_DISTANCE_UM for lesion in drawn):
                continue
            lesion = DrawnLesion(Polygon(shapely.get_exterior_ring(clipped)), grade)
            if lesion.kind == kind and lesion.outline.is_valid:
                drawn.append(lesion)
                break
    return drawn


def _pen_stroke(width_um: float, height_um: float, rng: Generator) -> Points:
    """Return the points of a wavy line near the upper left corner."""
    t = np.linspace(0, 1, 40)
    x = width_um * (0.08 + 0.25 * t)
    y = height_um * (0.12 + 0.05 * np.sin(6 * t + rng.uniform(0, 3)))
    return np.stack([x, y], 1)
