"""From anatomy in µm to pixels: two layers of stain, the Beer-Lambert law, and a scanner's blur and noise."""

from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsi_mil.contracts.arrays import RGB
from wsi_mil.raster import rasterize
from wsi_mil.synthetic.anatomy import Anatomy
from wsi_mil.synthetic.nuclei import Nuclei

OD_STEP = 0.008  # optical density per grey level of a stain layer
VERTICES = 14  # of the polygon that a nucleus is drawn as
SHIFT = 4  # bits of the fraction in OpenCV's coordinates: 1/16 px


@dataclass(frozen=True)
class Scanner:
    """The stain and the scanner of a centre.

    haematoxylin, eosin: optical densities of red, green and blue, close to those of Ruifrok and Johnston
    (2001), with the yellower eosin of most laboratories. glass: colour without tissue. noise: standard
    deviation in grey levels. pyramid_factor: how much smaller each level is than the one before.
    """

    name: str
    mpp: float
    haematoxylin: tuple[float, float, float] = (0.65, 0.70, 0.29)
    eosin: tuple[float, float, float] = (0.09, 0.92, 0.31)
    haematoxylin_gain: float = 1.0
    eosin_gain: float = 1.0
    glass: tuple[int, int, int] = (243, 242, 244)
    blur_um: float = 0.45
    noise: float = 2.0
    pyramid_factor: int = 2
    jpeg_quality: int = 85


def scanners(count: int, rng: np.random.Generator) -> list[Scanner]:
    """Return `count` random centres, each with its own scale, colours, focus and noise."""
    found = []
    for number in range(count):
        turn = rng.normal(0, 0.035, (2, 3))
        glass = rng.integers(236, 249, 3)
        h = np.clip(np.array([0.65, 0.70, 0.29]) + turn[0], 0.05, 1)
        e = np.clip(np.array([0.09, 0.92, 0.31]) + turn[1], 0.02, 1)
        found.append(
            Scanner(
                name=f"centre_{number + 1}",
                mpp=float(rng.choice([0.46, 0.48, 0.5])),
                haematoxylin=tuple((h / np.linalg.norm(h)).tolist()),
                eosin=tuple((e / np.linalg.norm(e)).tolist()),
                haematoxylin_gain=float(rng.uniform(0.85, 1.15)),
                eosin_gain=float(rng.uniform(0.8, 1.2)),
                glass=(int(glass[0]), int(glass[1]), int(glass[2])),
                blur_um=float(rng.uniform(0.35, 0.6)),
                noise=float(rng.uniform(1.2, 2.6)),
                pyramid_factor=int(rng.choice([2, 4])),
            )
        )
    return found


def paint(
    anatomy: Anatomy, scanner: Scanner, rng: np.random.Generator, mpp_xy: tuple[float, float] | None = None
) -> RGB:
    """Return the slide's pixels (H, W, 3) uint8 at `scanner.mpp` µm/px, or at `mpp_xy` if x and y differ."""
    mpp_x, mpp_y = mpp_xy or (scanner.mpp, scanner.mpp)
    scale = np.array([1 / mpp_x, 1 / mpp_y])
    shape = (round(anatomy.height_um * scale[1]), round(anatomy.width_um * scale[0]))
    eosin = _eosin(anatomy, shape, (mpp_x, mpp_y), rng)
    haematoxylin = _nuclei(anatomy, shape, scale, rng)
    haematoxylin += (eosin // 10).astype(np.uint8)  # all tissue takes a little haematoxylin
    lesions = shapely.union_all([lesion.outline for lesion in anatomy.lesions])
    for zone in shapely.get_parts(shapely.difference(anatomy.reactive, lesions)):
        if zone.is_empty:
            continue
        _basophilia(haematoxylin, eosin, zone, (mpp_x, mpp_y))
    for lesion in anatomy.lesions:
        _basophilia(haematoxylin, eosin, lesion.outline, (mpp_x, mpp_y))
    image = _develop(haematoxylin, eosin, scanner)
    for stroke in anatomy.pen:
        points = np.rint(stroke * scale).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(image, [points], False, (30, 120, 70), max(round(120 * scale[0]), 1), cv2.LINE_AA)
    return _scan(image, scanner, rng)


def _basophilia(
    haematoxylin: NDArray[np.uint8], eosin: NDArray[np.uint8], area: BaseGeometry, mpp_xy: tuple[float, float]
) -> None:
    """Make the cytoplasm inside `area` bluer and less pink, in place, as in tumour and in reactive tissue."""
    box, inside = _window(area, haematoxylin.shape, *mpp_xy)
    haematoxylin[box][inside] = np.minimum(haematoxylin[box][inside], 245) + 8
    eosin[box][inside] = (eosin[box][inside] * 0.88).astype(np.uint8)


def _window(
    outline: BaseGeometry, shape: tuple[int, ...], mpp_x: float, mpp_y: float
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Return the pixel window around an outline, and the outline's mask in that window."""
    x0, y0, x1, y1 = outline.bounds
    left, top = max(int(x0 / mpp_x), 0), max(int(y0 / mpp_y), 0)
    right, lower = min(int(x1 / mpp_x) + 2, shape[1]), min(int(y1 / mpp_y) + 2, shape[0])
    moved = shapely.transform(outline, lambda xy: xy - [left * mpp_x, top * mpp_y])
    return (slice(top, lower), slice(left, right)), rasterize(
        moved, (lower - top, right - left), mpp_x, mpp_y
    )


def _smooth_noise(shape: tuple[int, int], cell_px: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise with structures of about `cell_px`, mean 0 and standard deviation near 1."""
    small = (max(round(shape[0] / cell_px), 2), max(round(shape[1] / cell_px), 2))
    noise = rng.standard_normal(small, np.float32)
    return np.asarray(cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _eosin(
    anatomy: Anatomy, shape: tuple[int, ...], mpp_xy: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the eosin layer (H, W): fibrous tissue, and glands with an empty lumen."""
    mpp_x, mpp_y = mpp_xy
    # half size is enough: the drawn fibres are wider than a µm
    half = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    texture = 36 + 6 * _smooth_noise(half, 60 / mpp_x, rng) + 4 * _smooth_noise(half, 8 / mpp_x, rng)
    fibre = _smooth_noise((half[0], half[1] // 6 + 1), 2 / mpp_x, rng)
    texture += 4 * cv2.resize(fibre, half[::-1])
    canvas = np.clip(texture, 12, 90).astype(np.uint8)
    canvas[~rasterize(anatomy.tissue, half, 2 * mpp_x, 2 * mpp_y)] = 0
    canvas = np.asarray(
        cv2.resize(canvas, (half[1] * 2, half[0] * 2), interpolation=cv2.INTER_LINEAR), np.uint8
    )
    canvas = np.ascontiguousarray(canvas[: shape[0], : shape[1]])
    for gland in anatomy.glands:
        x, y = gland.centre_um[0] / mpp_x, gland.centre_um[1] / mpp_y
        for radius, value in ((gland.radius_um, 46), (gland.lumen_um, 3)):
            axes = (round(radius / mpp_x), round(radius / mpp_y))
            cv2.ellipse(canvas, (round(x), round(y)), axes, 0, 0, 360, value, -1)
    return canvas


def _nuclei(
    anatomy: Anatomy, shape: tuple[int, int], scale: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the haematoxylin layer (H, W): every nucleus, its chromatin clumped by a pattern of grains."""
    body = np.zeros(shape, np.uint8)
    clump = np.zeros(shape, np.uint8)
    for group in anatomy.nuclei:
        _draw(body, group, scale, 125 * group.darkness)
        _draw(clump, group, scale, 255 * np.clip(group.clumping, 0, 1))
        spots = group.keep(group.nucleolus_um > 0)
        radius = np.repeat(spots.nucleolus_um[:, None], 2, axis=1)
        bodies = Nuclei(
            spots.centre_um, radius, spots.angle, spots.darkness, spots.clumping, spots.nucleolus_um
        )
        _draw(body, bodies, scale, np.full(len(radius), 150.0))
    grain = _smooth_noise((512, 512), 1.1 * float(scale[0]), rng)
    grain -= grain.mean()
    for top in range(0, shape[0], 512):
        for left in range(0, shape[1], 512):
            window = (slice(top, top + 512), slice(left, left + 512))
            part = body[window].astype(np.float32)
            rows, columns = part.shape
            part *= 1 + 0.55 * (clump[window].astype(np.float32) / 255) * np.clip(
                grain[:rows, :columns], -1.4, 1.4
            )
            body[window] = np.clip(part, 0, 225).astype(np.uint8)
    return body


def _draw(
    canvas: NDArray[np.uint8], nuclei: Nuclei, scale: NDArray[np.float64], value: NDArray[np.float64]
) -> None:
    """Fill the ellipses on `canvas`, in place. scale: px per µm in x and y. value: grey levels (n,)."""
    turn = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    a = nuclei.axes_um[:, :1] * np.cos(turn)
    b = nuclei.axes_um[:, 1:] * np.sin(turn)
    cos, sin = np.cos(nuclei.angle)[:, None], np.sin(nuclei.angle)[:, None]
    turned = np.stack([a * cos - b * sin, a * sin + b * cos], axis=2)  # (n, V, 2) µm
    outline = turned + nuclei.centre_um[:, None]
    points = np.rint((outline * scale - 0.5) * (1 << SHIFT)).astype(np.int32)
    for polygon, grey in zip(points, np.rint(value).astype(int).tolist(), strict=True):
        cv2.fillConvexPoly(canvas, polygon, grey, cv2.LINE_AA, SHIFT)


def _develop(haematoxylin: NDArray[np.uint8], eosin: NDArray[np.uint8], scanner: Scanner) -> RGB:
    """Return the image by the Beer-Lambert law: intensity = glass * 10^-(optical density).

    All 256 x 256 pairs of layer values are computed once and looked up.
    """
    grey = np.arange(256) * OD_STEP
    h = grey[:, None, None] * np.array(scanner.haematoxylin) * scanner.haematoxylin_gain
    e = grey[None, :, None] * np.array(scanner.eosin) * scanner.eosin_gain
    table = np.rint(np.array(scanner.glass) * 10 ** -(h + e)).astype(np.uint8).reshape(-1, 3)
    image = np.empty((*haematoxylin.shape, 3), np.uint8)
    for top in range(0, len(image), 512):
        rows = slice(top, top + 512)
        image[rows] = table[haematoxylin[rows].astype(np.intp) * 256 + eosin[rows]]
    return image


def _scan(image: RGB, scanner: Scanner, rng: np.random.Generator) -> RGB:
    """Return the image with the scanner's blur and noise."""
    sigma = max(scanner.blur_um / scanner.mpp, 0.3)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
    # a tile of noise is repeated; the tile's odd sizes share no factor with those of image tiles
    noise = np.rint(rng.normal(0, scanner.noise, (613, 769, 3))).astype(np.int16)
    for top in range(0, len(image), 613):
        for left in range(0, image.shape[1], 769):
            part = image[top : top + 613, left : left + 769]
            part[:] = np.clip(part + noise[: part.shape[0], : part.shape[1]], 0, 255).astype(np.uint8)
    return image
