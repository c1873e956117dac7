"""What is on a synthetic slide, in µm: tissue, glands, follicles, lesions, and every nucleus.

Nothing here knows of pixels. Every nucleus lies wholly inside or wholly outside every lesion, so the outlines are
exact: what is drawn is what is annotated.
"""

from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

Points = NDArray[np.float64]
Generator = np.random.Generator


@dataclass(frozen=True)
class Nuclei:
    """n ellipses: centres (n, 2), half axes (n, 2) and angles in µm and radians; darkness and clumping in [0, 1];
    nucleolus (n,): radius in µm of a dark body, 0 for none."""

    centre_um: Points
    axes_um: Points
    angle: NDArray[np.float64]
    darkness: NDArray[np.float64]
    clumping: NDArray[np.float64]
    nucleolus_um: NDArray[np.float64]

    def keep(self, which: NDArray[np.bool_]) -> "Nuclei":
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
    centre_um: tuple[float, float]
    radius_um: float
    lumen_um: float


@dataclass(frozen=True)
class DrawnLesion:
    """An outline in µm and its grade of malignancy, 1 (bland) to 3 (wild)."""

    outline: Polygon
    grade: int

    @property
    def diameter_um(self) -> float:
        """Longer side of the smallest rotated rectangle around the outline."""
        corners = shapely.get_coordinates(shapely.oriented_envelope(self.outline))
        return float(np.linalg.norm(np.diff(corners, axis=0), axis=1).max())

    @property
    def kind(self) -> str:
        """'itc' below 0.2 mm, 'micro' to 2 mm, 'macro' above: the rule of the TNM system."""
        return "itc" if self.diameter_um < 200 else "micro" if self.diameter_um <= 2000 else "macro"


@dataclass(frozen=True)
class Anatomy:
    """One slide of `width_um` by `height_um`."""

    width_um: float
    height_um: float
    tissue: BaseGeometry
    glands: list[Gland] = field(default_factory=list)
    nuclei: list[Nuclei] = field(default_factory=list)
    lesions: list[DrawnLesion] = field(default_factory=list)
    reactive: BaseGeometry = field(default_factory=Polygon)
    pen: list[Points] = field(default_factory=list)


LESION_UM = {"itc": (60.0, 170.0), "micro": (260.0, 1100.0), "macro": (2050.0, 2600.0)}
TISSUE_MARGIN_UM = 30.0


def draw_anatomy(
    width_um: float,
    height_um: float,
    lesions: list[tuple[str, int]],
    tissue_rng: Generator,
    lesion_rng: Generator,
    pen: bool = False,
    empty: bool = False,
) -> Anatomy:
    """Return a slide with the asked lesions (kind, grade); those that find no room are left out.

    The normal tissue is drawn from `tissue_rng` alone: the same generator with and without lesions gives the same
    slide outside the outlines.
    """
    if empty:
        return Anatomy(width_um, height_um, Polygon())
    tissue = _tissue(width_um, height_um, tissue_rng)
    glands = _glands(tissue, tissue_rng)
    reactive = _zones(tissue, 700, 0.5, (80, 220), tissue_rng)
    normal = _normal_nuclei(tissue, glands, reactive, tissue_rng)
    strokes = [_pen_stroke(width_um, height_um, tissue_rng)] if pen else []
    drawn = _lesions(tissue, lesions, lesion_rng)
    if drawn:
        area = shapely.union_all([lesion.outline for lesion in drawn])
        shapely.prepare(area)
        discs = [shapely.Point(g.centre_um).buffer(g.radius_um + 3) for g in glands]
        lost = [gland for gland, disc in zip(glands, discs, strict=True) if area.intersects(disc)]
        glands = [gland for gland in glands if gland not in lost]
        normal = [_outside(_outside_glands(n, lost), area) for n in normal]
        normal += [_tumour_nuclei(lesion, lesion_rng) for lesion in drawn]
    return Anatomy(width_um, height_um, tissue, glands, normal, drawn, reactive, strokes)


def _blob(centre: Points, radius_um: float, aspect: float, wobble: float, rng: Generator) -> Polygon:
    """A smooth closed outline: a circle with a few random harmonics, stretched and turned."""
    angle = np.linspace(0, 2 * np.pi, 97)[:-1]
    radius = np.ones_like(angle)
    for order in range(2, 8):
        radius += wobble / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.45, 1.6)
    x, y = radius * np.cos(angle) * np.sqrt(aspect), radius * np.sin(angle) / np.sqrt(aspect)
    turn = rng.uniform(0, np.pi)
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    return Polygon(centre + radius_um * points).buffer(0)


def _tissue(width_um: float, height_um: float, rng: Generator) -> BaseGeometry:
    """One large piece and perhaps a small one, filling about half of the glass."""
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
    hole = _blob(centre + rng.uniform(-0.2, 0.2, 2) * half, rng.uniform(90, 160), aspect, 0.3, rng)
    frame = shapely.box(0, 0, width_um, height_um).buffer(-20)
    return shapely.intersection(shapely.difference(main.buffer(0), hole), frame)


def _jittered_grid(bounds: tuple[float, float, float, float], spacing_um: float, rng: Generator) -> Points:
    """Points about `spacing_um` apart: a hexagonal grid, each moved a little."""
    x0, y0, x1, y1 = bounds
    rows = np.arange(y0, y1, spacing_um * 0.87)
    columns = np.arange(x0, x1, spacing_um)
    grid_x, grid_y = np.meshgrid(columns, rows)
    grid_x[1::2] += spacing_um / 2
    points = np.stack([grid_x.ravel(), grid_y.ravel()], 1)
    return points + rng.uniform(-0.3, 0.3, points.shape) * spacing_um


def _inside(points: Points, area: BaseGeometry) -> NDArray[np.bool_]:
    shapely.prepare(area)
    return np.asarray(shapely.contains_xy(area, points[:, 0], points[:, 1]))


def _glands(tissue: BaseGeometry, rng: Generator) -> list[Gland]:
    centres = _jittered_grid(tissue.bounds, 190, rng)
    keep = rng.random(len(centres)) < 0.55
    radii = rng.uniform(32, 62, len(centres))
    lumens = rng.uniform(0.25, 0.5, len(centres))
    deep = _inside(centres, tissue.buffer(-80))
    return [
        Gland((float(c[0]), float(c[1])), float(r), float(r * share))
        for c, r, share, k, d in zip(centres, radii, lumens, keep, deep, strict=True)
        if k and d
    ]


def _zones(
    tissue: BaseGeometry, spacing_um: float, share: float, radius_um: tuple[float, float], rng: Generator
) -> BaseGeometry:
    """Scattered blobs inside the tissue, as one area."""
    centres = _jittered_grid(tissue.bounds, spacing_um, rng)
    centres = centres[_inside(centres, tissue.buffer(-radius_um[0])) & (rng.random(len(centres)) < share)]
    blobs = [_blob(c, rng.uniform(*radius_um), rng.uniform(1, 1.5), 0.25, rng) for c in centres]
    return shapely.intersection(shapely.union_all(blobs), tissue.buffer(-10))


def _make(
    centre: Points,
    rng: Generator,
    *,
    radius: float,
    spread: float,
    aspect: tuple[float, float],
    darkness: tuple[float, float],
    clumping: tuple[float, float],
    nucleolus: float = 0.0,
    angle: NDArray[np.float64] | None = None,
) -> Nuclei:
    n = len(centre)
    size = radius * np.clip(rng.lognormal(0, spread, n), 0.55, 2.2)
    ratio = rng.uniform(*aspect, n)
    bodies = np.where(rng.random(n) < nucleolus, 0.27 * size, 0.0)
    return Nuclei(
        centre,
        np.stack([size * np.sqrt(ratio), size / np.sqrt(ratio)], 1),
        rng.uniform(0, np.pi, n) if angle is None else angle,
        rng.uniform(*darkness, n),
        rng.uniform(*clumping, n),
        bodies,
    )


def _normal_nuclei(
    tissue: BaseGeometry, glands: list[Gland], reactive_area: BaseGeometry, rng: Generator
) -> list[Nuclei]:
    groups = []
    # epithelium: a palisade around each lumen
    for gland in glands:
        ring = gland.lumen_um + 0.55 * (gland.radius_um - gland.lumen_um)
        count = max(int(2 * np.pi * ring / 8.5), 4)
        turn = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1)
        away = ring + rng.normal(0, 1.6, count)
        centre = np.asarray(gland.centre_um) + away[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
        groups.append(
            _make(
                centre,
                rng,
                radius=3.4,
                spread=0.10,
                aspect=(1.2, 1.7),
                darkness=(0.5, 0.7),
                clumping=(0.1, 0.3),
                angle=turn,
            )
        )
    # lymphoid follicles: as dense and dark as a tumour, but small, round and alike
    follicle_area = _zones(tissue, 520, 0.45, (70, 150), rng)
    lymph = _jittered_grid(tissue.bounds, 9.0, rng)
    lymph = lymph[_inside(lymph, follicle_area)]
    groups.append(
        _make(
            lymph, rng, radius=3.0, spread=0.08, aspect=(1.0, 1.2), darkness=(0.7, 0.9), clumping=(0.1, 0.3)
        )
    )
    # reactive zones: crowded, enlarged, basophilic, yet even and smooth: what a model must not take for a tumour
    reactive = _jittered_grid(tissue.bounds, 9.6, rng)
    reactive = reactive[_inside(reactive, reactive_area) & ~_inside(reactive, follicle_area)]
    groups.append(
        _make(
            reactive,
            rng,
            radius=3.7,
            spread=0.07,
            aspect=(1.0, 1.35),
            darkness=(0.5, 0.75),
            clumping=(0.2, 0.4),
        )
    )
    # stroma: sparse spindle cells and single lymphocytes
    stroma = _jittered_grid(tissue.bounds, 17.0, rng)
    stroma = stroma[_inside(stroma, tissue.buffer(-6)) & (rng.random(len(stroma)) < 0.75)]
    stroma = stroma[~_inside(stroma, shapely.union(follicle_area, reactive_area))]
    spindle = rng.random(len(stroma)) < 0.65
    flow = 1.2 * np.sin(stroma[:, 0] / 400) + 1.2 * np.cos(stroma[:, 1] / 330)
    groups.append(
        _make(
            stroma[spindle],
            rng,
            radius=3.0,
            spread=0.15,
            aspect=(2.2, 4.0),
            darkness=(0.5, 0.75),
            clumping=(0.1, 0.3),
            angle=flow[spindle] + rng.normal(0, 0.3, int(spindle.sum())),
        )
    )
    groups.append(
        _make(
            stroma[~spindle],
            rng,
            radius=3.0,
            spread=0.10,
            aspect=(1.0, 1.3),
            darkness=(0.65, 0.85),
            clumping=(0.1, 0.3),
        )
    )
    # no stroma or lymphocyte inside a gland
    cleared = [_outside_glands(group, glands) for group in groups[-4:]]
    return groups[:-4] + cleared


def _outside_glands(nuclei: Nuclei, glands: list[Gland]) -> Nuclei:
    if not glands or not len(nuclei.centre_um):
        return nuclei
    from scipy.spatial import cKDTree

    tree = cKDTree(np.array([gland.centre_um for gland in glands]))
    distance, which = tree.query(nuclei.centre_um)
    radius = np.array([gland.radius_um for gland in glands])[which]
    return nuclei.keep(distance > radius + nuclei.axes_um.max(axis=1))


def _outside(nuclei: Nuclei, area: BaseGeometry) -> Nuclei:
    """Keep the nuclei that do not touch `area`."""
    centres = shapely.points(nuclei.centre_um)
    return nuclei.keep(shapely.distance(centres, area) > nuclei.axes_um.max(axis=1, initial=0) + 0.5)


def _lesions(tissue: BaseGeometry, wanted: list[tuple[str, int]], rng: Generator) -> list[DrawnLesion]:
    room = tissue.buffer(-TISSUE_MARGIN_UM)
    drawn: list[DrawnLesion] = []
    for kind, grade in wanted:
        low, high = LESION_UM[kind]
        for _ in range(200):
            x0, y0, x1, y1 = room.bounds
            centre = rng.uniform((x0, y0), (x1, y1))
            aspect = rng.uniform(1.0, 1.9)
            length_um = rng.uniform(low, high)
            outline = _blob(centre, length_um / 2 / np.sqrt(aspect), aspect, 0.3, rng)
            clipped = shapely.intersection(outline, room)
            if not isinstance(clipped, Polygon) or clipped.area < 0.6 * outline.area or clipped.interiors:
                continue
            if any(lesion.outline.distance(clipped) < 160 for lesion in drawn):
                continue
            lesion = DrawnLesion(Polygon(shapely.get_exterior_ring(clipped)), grade)
            if lesion.kind == kind and lesion.outline.is_valid:
                drawn.append(lesion)
                break
    return drawn


def _tumour_nuclei(lesion: DrawnLesion, rng: Generator) -> Nuclei:
    """Large, uneven, crowded, clumped, more so with the grade; every one wholly inside the outline."""
    grade = lesion.grade
    radius = 3.8 + 0.45 * grade
    centre = _jittered_grid(lesion.outline.bounds, 2.15 * radius, rng)
    centre = centre[_inside(centre, lesion.outline.buffer(-1))]
    nuclei = _make(
        centre,
        rng,
        radius=radius,
        spread=0.08 + 0.07 * grade,
        aspect=(1.0, 1.3 + 0.2 * grade),
        darkness=(0.42, 0.76),
        clumping=(0.25, 0.45 + 0.15 * grade),
        nucleolus=0.05 + 0.2 * grade,
    )
    edge = shapely.distance(shapely.points(nuclei.centre_um), lesion.outline.exterior)
    return nuclei.keep(edge > nuclei.axes_um.max(axis=1, initial=0) + 0.5)


def _pen_stroke(width_um: float, height_um: float, rng: Generator) -> Points:
    t = np.linspace(0, 1, 40)
    x = width_um * (0.08 + 0.25 * t)
    y = height_um * (0.12 + 0.05 * np.sin(6 * t + rng.uniform(0, 3)))
    return np.stack([x, y], 1)
