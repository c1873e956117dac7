"""Slides and outlines on disk: tiled pyramids that OpenSlide and tiffslide open, ASAP XML, and GeoJSON."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import shapely
import tifffile

from wsi_mil.contracts.arrays import RGB
from wsi_mil.geojson import GRID_PX, feature, polygonal, stable_id, write_features
from wsi_mil.io.disk import writing
from wsi_mil.io.files import write_aside

TILE_PX = 256
TUMOUR_COLOUR = (200, 0, 0)


def write_pyramid(
    path: Path,
    pixels: RGB,
    mpp_xy: tuple[float, float] | None,
    *,
    factor: int = 2,
    quality: int | None = 85,
    smallest_px: int = 512,
) -> None:
    """Write `pixels` (H, W, 3) as a tiled TIFF pyramid.

    mpp_xy: µm per pixel in x and y, None to leave out the scale. factor: how much smaller each level is, 0
    for one level only. quality: of JPEG, None for lossless. smallest_px: no level gets a shorter side than
    this.
    """
    options: dict[str, object] = {"tile": (TILE_PX, TILE_PX), "photometric": "rgb", "metadata": None}
    if quality is not None:
        options |= {"compression": "jpeg", "compressionargs": {"level": quality}}
    else:
        options |= {"compression": "adobe_deflate", "predictor": True}
    with write_aside(path) as aside, tifffile.TiffWriter(aside, bigtiff=False) as tiff:
        level, reduced = pixels, 1
        while True:
            if mpp_xy is not None:
                resolution = tuple(10_000 / (mpp * reduced) for mpp in mpp_xy)
                options |= {"resolution": resolution, "resolutionunit": "CENTIMETER"}
            tiff.write(level, subfiletype=0 if reduced == 1 else 1, software="wsi_mil", **options)
            if factor < 2 or min(level.shape[:2]) // factor < smallest_px:
                break
            size = (level.shape[1] // factor, level.shape[0] // factor)
            trimmed = level[: size[1] * factor, : size[0] * factor]
            level = np.asarray(cv2.resize(trimmed, size, interpolation=cv2.INTER_AREA), np.uint8)
            reduced *= factor


def pad_to_one_size(paths: Sequence[Path], step: int = 1 << 16) -> int:
    """Append zeros until all files have the same size, and return it. TIFF readers ignore the zeros.

    The size of a file then says nothing about its label.
    """
    size = -(-max(path.stat().st_size for path in paths) // step) * step
    for path in paths:
        with writing(path, needs=size), path.open("rb+") as handle:
            handle.truncate(size)
    return size


def write_asap(path: Path, outlines: Sequence[tuple[str, shapely.Polygon]]) -> None:
    """Write outlines (name, polygon in level-0 pixels) as ASAP XML, as the Camelyon annotations are."""
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    for name, polygon in outlines:
        attributes = {"Name": name, "Type": "Polygon", "PartOfGroup": "Tumor", "Color": "#F4FA58"}
        node = ElementTree.SubElement(
            ElementTree.SubElement(annotations, "Annotation", attributes), "Coordinates"
        )
        for order, (x, y) in enumerate(polygon.exterior.coords[:-1]):
            ElementTree.SubElement(
                node, "Coordinate", {"Order": str(order), "X": f"{x:.4f}", "Y": f"{y:.4f}"}
            )
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    ElementTree.SubElement(groups, "Group", {"Name": "Tumor", "PartOfGroup": "None", "Color": "#00ff00"})
    ElementTree.indent(root)
    with write_aside(path) as aside:
        ElementTree.ElementTree(root).write(aside, encoding="utf-8", xml_declaration=True)


def write_truth_geojson(path: Path, slide_id: str, outlines: Sequence[tuple[str, shapely.Polygon]]) -> None:
    """Write outlines (name, polygon in level-0 pixels) as QuPath annotations of class Tumor."""
    features = [
        feature(
            polygonal(polygon, GRID_PX),
            object_type="annotation",
            uid=stable_id(slide_id, "truth", number),
            class_name="Tumor",
            colour=TUMOUR_COLOUR,
            name=name,
        )
        for number, (name, polygon) in enumerate(outlines)
    ]
    write_features(
        path, features, {"kind": "truth", "format": 1, "slide_id": slide_id, "bounds_offset_px": [0, 0]}
    )
