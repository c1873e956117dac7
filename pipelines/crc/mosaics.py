"""Nuclei patches of a patient side by side as one slide, with outlines of tissue and of cancerous patches."""

import math
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.geojson import feature, polygonal, stable_id, write_features
from wsi_mil.io.files import write_text
from wsi_mil.io.tables import csv_text
from wsi_mil.synthetic.writing import write_pyramid

TILE_PX, MPP = 27, 0.5

PatchLabels = dict[str, NDArray[np.bool_]]
"""Slide id -> which of its patches are cancerous (N,), in the order of the tiles."""


def write_mosaics(data: Path, folder: Path) -> PatchLabels:
    """Write slides/, labels.csv, annotations/ and tissue/; return the patch labels of each slide.

    data: crchisto27.npz with images (N, 27, 27, 3), patient (N,) and cancerous (N,). A slide is stored
    without loss, so each tile has exactly the pixels of its patch. Cells of the mosaic without a patch stay
    white.
    """
    with np.load(data, allow_pickle=False) as arrays:
        images, patient, cancerous = arrays["images"], arrays["patient"], arrays["cancerous"].astype(bool)
    truth, rows = {}, []
    for number in np.unique(patient):
        slide_id = f"patient_{int(number):03d}"
        patches, positive = images[patient == number], cancerous[patient == number]
        truth[slide_id] = positive
        rows.append((slide_id, int(positive.any()), slide_id))
        columns = math.ceil(math.sqrt(len(patches)))
        mosaic = np.full((math.ceil(len(patches) / columns) * TILE_PX, columns * TILE_PX, 3), 255, np.uint8)
        corners = [((i % columns) * TILE_PX, (i // columns) * TILE_PX) for i in range(len(patches))]
        for (x, y), patch in zip(corners, patches, strict=True):
            mosaic[y : y + TILE_PX, x : x + TILE_PX] = patch
        write_pyramid(folder / "slides" / f"{slide_id}.tiff", mosaic, (MPP, MPP), factor=0, quality=None)
        boxes = shapely.box(*np.array(corners).T, *(np.array(corners) + TILE_PX).T)
        # an outline of the tissue, as a user can edit it: cells without a patch are no tissue
        write_outline(folder / "tissue" / f"{slide_id}.geojson", slide_id, "Tissue", boxes)
        path = folder / "annotations" / f"{slide_id}.geojson"
        write_outline(path, slide_id, "Tumor", boxes[positive], kind="truth")
    write_text(folder / "labels.csv", csv_text(("slide", "label", "patient"), rows))
    return truth


def write_outline(
    path: Path, slide_id: str, name: str, boxes: NDArray[np.object_], kind: str = "outline"
) -> None:
    """Write the union of `boxes` as one GeoJSON annotation of class `name`; none without boxes.

    kind: "truth" for what `slides.annotations` reads; a file of another kind is refused there.
    """
    area = polygonal(shapely.union_all(boxes))
    uid = stable_id(slide_id, name)
    items = [] if area.is_empty else [feature(area, object_type="annotation", uid=uid, class_name=name)]
    write_features(path, items, {"kind": kind, "slide_id": slide_id, "bounds_offset_px": [0, 0]})
