"""Images from the slides of a synthetic cohort; every second one has tumour."""

import math
from pathlib import Path

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from pipelines.attention.images import MPP, SIDE_PX, Images, stacked
from wsi_mil.errors import DataError
from wsi_mil.evaluation import read_annotations
from wsi_mil.raster import rasterize
from wsi_mil.slides import open_slide, read_scaled
from wsi_mil.synthetic import SynthSpec, write_cohort

COHORT = SynthSpec(pairs=4, itc_share=0)
GLASS_FROM = 225  # mean grey level of a pixel without tissue


def slide_images(count: int, seed: int, folder: Path) -> Images:
    """Return `count` images of 192 µm from slides of a synthetic cohort, which is written to `folder`.

    Every second image is 5 to 75 % tumour. The others come from all slides and are at least a tile away from
    tumour. Raises DataError if the slides have too few such places.
    """
    rng = np.random.default_rng(seed)
    write_cohort(folder, COHORT.model_copy(update={"seed": seed}))
    half = SIDE_PX // 2
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    wanted = count // 2
    for path in sorted((folder / "slides").glob("*.tiff")):
        field, truth = _read_with_truth(path, folder / "annotations" / f"{path.stem}.xml")
        for label, places in enumerate(_places(field, truth)):
            rows, columns = np.nonzero(places)
            for i in rng.permutation(len(rows))[: math.ceil(4 * wanted / COHORT.pairs)]:
                part = slice(rows[i] - half, rows[i] + half), slice(columns[i] - half, columns[i] + half)
                found[label].append((field[part], truth[part]))
    drawn = [[part[i] for i in rng.permutation(len(part))[:wanted]] for part in found]
    if min(map(len, drawn)) < wanted:
        raise DataError(
            f"{[len(part) for part in found]} tiles without and with tumour, {wanted} of each wanted: more "
            "slides are needed"
        )
    both = [tile for pair in zip(*drawn, strict=True) for tile in pair]
    return stacked([pixels for pixels, _ in both], [mask for _, mask in both], [0, 1] * wanted)


def _read_with_truth(path: Path, outlines: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a slide's pixels (H, W, 3) at MPP and its tumour mask (H, W), empty without outlines."""
    with open_slide(path) as slide:
        info, field = slide.info, read_scaled(slide, MPP)
    lesions = read_annotations(outlines, path.stem, info) if outlines.exists() else []
    scale = MPP / info.mpp
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    return field, rasterize(area, field.shape[:2], scale, scale)


def _places(
    field: NDArray[np.uint8], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pixels (H, W) that can be the centre of an image without tumour, and of one with tumour."""
    half, window = SIDE_PX // 2, (SIDE_PX, SIDE_PX)
    fraction = cv2.boxFilter(truth.astype(np.float32), -1, window)
    near = cv2.dilate(truth.view(np.uint8), np.ones((2 * SIDE_PX + 1, 2 * SIDE_PX + 1), np.uint8)) > 0
    tissue = cv2.boxFilter((field.mean(2) < GLASS_FROM).astype(np.float32), -1, window) > 0.8
    inner = np.zeros_like(truth)
    inner[half:-half, half:-half] = True
    return tissue & ~near & inner, (fraction > 0.05) & (fraction < 0.75) & inner
