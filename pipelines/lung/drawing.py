"""The pixels of a mosaic slide, and the outlines of its lesions."""

import zipfile
from collections.abc import Sequence

import cv2
import numpy as np
import shapely
from numpy.random import Generator

from pipelines.lung.lesions import disc, draw_lesions
from pipelines.lung.pools import Pool
from pipelines.lung.spec import CARCINOMAS, GLASS, IMAGE_PX, NORMAL, Centre, MosaicSpec
from wsi_mil.contracts.arrays import RGB, Mask
from wsi_mil.errors import DataError
from wsi_mil.geojson import polygonal
from wsi_mil.io.images import decode_image
from wsi_mil.raster import polygonize


def draw_slide(
    files: zipfile.ZipFile, pool: Pool, label: int, spec: MosaicSpec, centre: Centre, rng: Generator
) -> tuple[RGB, list[shapely.Polygon]]:
    """Return the pixels (H, W, 3) of a slide and the outlines of its lesions in pixels.

    The margin of glass has a random width, so the images are not aligned with the tile grid.
    """
    tissue = disc(spec.side)
    lesions = draw_lesions(tissue, spec, rng) if label else []
    tumour = np.any(lesions, axis=0) if lesions else np.zeros_like(tissue)
    carcinoma = CARCINOMAS[int(rng.integers(len(CARCINOMAS)))]
    margin_x, margin_y = (int(v) for v in rng.integers(IMAGE_PX // 2, 3 * IMAGE_PX // 2, 2))
    size = spec.side * IMAGE_PX
    pixels = np.full((size + 2 * margin_y, size + 2 * margin_x, 3), GLASS, np.uint8)
    for cells, name in ((tissue & ~tumour, NORMAL), (tumour, carcinoma)):
        places = np.argwhere(cells)
        chosen = np.resize(rng.permutation(pool[name]), len(places))  # images repeat if the pool is too small
        for (row, column), file in zip(places, chosen, strict=True):
            image = _turned(_read(files, str(file)), rng)
            y, x = margin_y + row * IMAGE_PX, margin_x + column * IMAGE_PX
            pixels[y : y + IMAGE_PX, x : x + IMAGE_PX] = image
    gains = np.array(centre.gains) * np.exp(rng.normal(0, spec.slide_jitter, 3))
    pixels = stain(pixels, gains)
    if centre.blur_px > 0:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), centre.blur_px), np.uint8)
    zoom = float(rng.uniform(*spec.zoom))
    width, height = round(pixels.shape[1] * zoom), round(pixels.shape[0] * zoom)
    scale = (width / pixels.shape[1], height / pixels.shape[0])
    pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return pixels, _outlines(lesions, (margin_x, margin_y), scale)


def _outlines(
    lesions: Sequence[Mask], corner_px: tuple[int, int], scale: tuple[float, float]
) -> list[shapely.Polygon]:
    """Return the outlines of masks of cells; corner_px: of the first cell, before scaling."""
    outlines = []
    for lesion in lesions:
        cells = polygonal(polygonize(lesion, IMAGE_PX, IMAGE_PX))
        moved = shapely.transform(cells, lambda xy: (xy + np.array(corner_px)) * scale)
        outlines += [shapely.Polygon(part.exterior) for part in moved.geoms]
    return outlines


def _read(files: zipfile.ZipFile, name: str) -> RGB:
    image = decode_image(files.read(name), name)
    if image.shape != (IMAGE_PX, IMAGE_PX, 3):
        raise DataError(
            f"{name} has {image.shape[1]} x {image.shape[0]} px, expected {IMAGE_PX} x {IMAGE_PX}"
        )
    return image


def _turned(image: RGB, rng: Generator) -> RGB:
    """Return the image in one of eight orientations."""
    turned = np.rot90(image, int(rng.integers(4)))
    return turned[:, ::-1] if rng.random() < 0.5 else turned


def stain(pixels: RGB, gains: Sequence[float] | np.ndarray) -> RGB:
    """Return the image with the optical densities of haematoxylin, eosin and residual multiplied by `gains`.

    Colour deconvolution of Ruifrok and Johnston (2001). It is linear in optical density, so it is one 3 x 3
    matrix.
    """
    from skimage.color import hed_from_rgb, rgb_from_hed

    matrix = hed_from_rgb @ np.diag(np.asarray(gains, np.float64)) @ rgb_from_hed
    density = -np.log((np.arange(256) + 1.0) / 256).astype(np.float32)[pixels]  # (H, W, 3)
    light = 256 * np.exp(-(density @ matrix.astype(np.float32))) - 1
    return np.asarray(np.clip(light, 0, 255).round(), np.uint8)
