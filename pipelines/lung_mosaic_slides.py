"""Mosaic slides of real lung H&E with exact lesions: what is drawn, how a slide is put together, what is written."""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
from numpy.random import Generator
from pydantic import Field
from scipy.ndimage import binary_fill_holes

from wsi_mil.contracts.arrays import RGB, Mask
from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import DataError
from wsi_mil.geojson import polygonal
from wsi_mil.io.files import write_text
from wsi_mil.io.json import read_json, write_json
from wsi_mil.logs import progress
from wsi_mil.raster import polygonize
from wsi_mil.synthetic.writing import write_asap, write_pyramid

IMAGE_PX, MPP = 224, 0.5
NORMAL, CARCINOMAS = "lung_n", ("lung_aca", "lung_scc")
GLASS = (243, 242, 244)
POOLS = {
    "train": 0.5,
    "val": 0.15,
    "test": 0.35,
}  # shares of the near-duplicate groups; no group is in two pools


class MosaicSpec(Spec):
    """One form of the cohort. `slides`: how many per part, half of them normal. Jitters are standard deviations of
    log stain gains, per slide and per centre; `blur_px`: the range of a centre's defocus at 0.5 µm/px. Training and
    validation slides come from the first half of the `centres`, test slides from the other; one centre: from the same."""

    slides: dict[str, int] = Field({"train": 48, "val": 16, "test": 36})
    side: int = Field(12, ge=4, description="images along a side of the mosaic")
    lesions: tuple[int, int] = (1, 3)
    lesion_images: tuple[int, int] = (1, 12)
    centres: int = Field(1, ge=1)
    slide_jitter: float = 0.05
    centre_jitter: float = 0.0
    blur_px: tuple[float, float] = (0.0, 0.0)
    zoom: tuple[float, float] = (0.93, 1.07)
    seed: int = 0


@dataclass(frozen=True)
class Centre:
    """A laboratory: gains of haematoxylin, eosin and residual, and the scanner's defocus."""

    name: str
    gains: tuple[float, float, float]
    blur_px: float


def read_pools(archive: Path, rng: Generator) -> dict[str, dict[str, list[str]]]:
    """Return part -> class -> names of images; near-duplicate groups stay together. Raises DataError for another zip."""
    try:
        with zipfile.ZipFile(archive) as files:
            rows = list(csv.DictReader(io.StringIO(files.read("index.csv").decode())))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{archive} is no lung_he.zip (images and index.csv with file,class,group): {error}"
        ) from error
    pools: dict[str, dict[str, list[str]]] = {part: {} for part in POOLS}
    for name in (NORMAL, *CARCINOMAS):
        groups = rng.permutation(sorted({row["group"] for row in rows if row["class"] == name}))
        cuts = np.rint(np.cumsum(list(POOLS.values())) * len(groups)).astype(int)
        for part, chosen in zip(POOLS, np.split(groups, cuts[:-1]), strict=True):
            members = set(chosen.tolist())
            pools[part][name] = [
                row["file"] for row in rows if row["class"] == name and row["group"] in members
            ]
    return pools


def write_mosaics(archive: Path, folder: Path, spec: MosaicSpec) -> None:
    """Write slides/, annotations/ (ASAP XML of the tumour slides) and labels.csv with split and centre; once."""
    done = folder / "mosaics.json"
    if done.exists() and read_json(done) == spec.model_dump(mode="json"):
        return
    rng = np.random.default_rng(spec.seed)
    pools = read_pools(archive, rng)
    centres = _centres(spec, rng)
    parts = [
        (part, label) for part, count in spec.slides.items() for label in (0, 1) for _ in range(count // 2)
    ]
    numbers = rng.permutation(len(parts))
    rows = []
    with zipfile.ZipFile(archive) as files:
        for number, (part, label) in progress(
            list(zip(numbers, parts, strict=True)), total=len(parts), label="mosaics"
        ):
            slide_id = f"slide_{number:03d}"
            half = len(centres) // 2
            allowed = centres if not half else centres[half:] if part == "test" else centres[:half]
            centre = allowed[int(rng.integers(len(allowed)))]
            pixels, lesions = _slide(files, pools[part], label, spec, centre, rng)
            write_pyramid(folder / "slides" / f"{slide_id}.tiff", pixels, (MPP, MPP), quality=85)
            if lesions:
                outlines = [(f"lesion {i}", lesion) for i, lesion in enumerate(lesions)]
                write_asap(folder / "annotations" / f"{slide_id}.xml", outlines)
            rows.append(f"{slide_id},{label},{slide_id},{centre.name},{part}")
    write_text(folder / "labels.csv", "\n".join(["slide,label,patient,centre,split", *sorted(rows)]) + "\n")
    write_json(done, spec.model_dump(mode="json"))


def _centres(spec: MosaicSpec, rng: Generator) -> list[Centre]:
    found = []
    for number in range(spec.centres):
        gains = np.exp(rng.normal(0, spec.centre_jitter, 3))
        found.append(
            Centre(f"centre_{number}", (gains[0], gains[1], gains[2]), float(rng.uniform(*spec.blur_px)))
        )
    return found


def _slide(
    files: zipfile.ZipFile,
    pool: dict[str, list[str]],
    label: int,
    spec: MosaicSpec,
    centre: Centre,
    rng: Generator,
) -> tuple[RGB, list[shapely.Polygon]]:
    """Return the pixels and the lesions' outlines. The margin of glass is drawn, so images do not lie on the tile grid."""
    tissue = _ellipse(spec.side)
    lesions = draw_lesions(tissue, spec, rng) if label else []
    tumour = np.any(lesions, axis=0) if lesions else np.zeros_like(tissue)
    carcinoma = CARCINOMAS[int(rng.integers(len(CARCINOMAS)))]
    margin_x, margin_y = (int(v) for v in rng.integers(IMAGE_PX // 2, 3 * IMAGE_PX // 2, 2))
    size = spec.side * IMAGE_PX
    pixels = np.full((size + 2 * margin_y, size + 2 * margin_x, 3), GLASS, np.uint8)
    for cells, name in ((tissue & ~tumour, NORMAL), (tumour, carcinoma)):
        places = np.argwhere(cells)
        chosen = np.resize(
            rng.permutation(pool[name]), len(places)
        )  # again from the start when the pool is used up
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
    outlines, corner = [], np.array([margin_x, margin_y])
    for lesion in lesions:
        cells = polygonal(polygonize(lesion, IMAGE_PX, IMAGE_PX))
        moved = shapely.transform(cells, lambda xy: (xy + corner) * scale)
        outlines += [shapely.Polygon(part.exterior) for part in moved.geoms]
    return pixels, outlines


def _ellipse(side: int) -> Mask:
    """Cells of the mosaic that are tissue: a disc."""
    at = (np.arange(side) + 0.5) / side * 2 - 1
    return np.asarray(at[:, None] ** 2 + at[None] ** 2 <= 1.05, np.bool_)


def draw_lesions(tissue: Mask, spec: MosaicSpec, rng: Generator) -> list[Mask]:
    """Return one mask of cells per lesion: grown cell by cell, side by side, a cell of normal tissue between lesions."""
    lesions: list[Mask] = []
    free = tissue.copy()
    for _ in range(int(rng.integers(spec.lesions[0], spec.lesions[1], endpoint=True))):
        starts = np.argwhere(free)
        if not len(starts):
            break
        lesion = np.zeros_like(tissue)
        lesion[tuple(starts[int(rng.integers(len(starts)))])] = True
        for _ in range(int(rng.integers(spec.lesion_images[0], spec.lesion_images[1], endpoint=True)) - 1):
            edge = np.argwhere(cv2.dilate(lesion.astype(np.uint8), CROSS).astype(bool) & free & ~lesion)
            if not len(edge):
                break
            lesion[tuple(edge[int(rng.integers(len(edge)))])] = True
        lesion = binary_fill_holes(
            lesion
        )  # an outline has no hole: what a lesion surrounds is drawn as lesion
        lesions.append(lesion)
        free &= ~cv2.dilate(lesion.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return lesions


CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def _read(files: zipfile.ZipFile, name: str) -> RGB:
    image = cv2.imdecode(np.frombuffer(files.read(name), np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape != (IMAGE_PX, IMAGE_PX, 3):
        raise DataError(f"{name} is no image of {IMAGE_PX} x {IMAGE_PX} px")
    return np.asarray(image[:, :, ::-1], np.uint8)


def _turned(image: RGB, rng: Generator) -> RGB:
    turned = np.rot90(image, int(rng.integers(4)))
    return turned[:, ::-1] if rng.random() < 0.5 else turned


def stain(pixels: RGB, gains: Sequence[float] | np.ndarray) -> RGB:
    """Return the image with its haematoxylin, eosin and residual optical densities multiplied by `gains`.

    Colour deconvolution of Ruifrok and Johnston (2001). It is linear in optical density, so one 3 x 3 matrix does it.
    """
    from skimage.color import hed_from_rgb, rgb_from_hed

    matrix = hed_from_rgb @ np.diag(np.asarray(gains, np.float64)) @ rgb_from_hed
    density = -np.log((np.arange(256) + 1.0) / 256).astype(np.float32)[pixels]  # (H, W, 3)
    light = 256 * np.exp(-(density @ matrix.astype(np.float32))) - 1
    return np.asarray(np.clip(light, 0, 255).round(), np.uint8)
