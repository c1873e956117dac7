"""Lesions from ASAP XML (Camelyon), GeoJSON (QuPath) and mask images, in level-0 pixels."""

from dataclasses import dataclass
from pathlib import Path

import shapely
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from shapely import MultiPolygon, Polygon

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.qupath import BoundsMode, qupath_frame
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import DataError
from wsi_mil.evaluation.mask_files import read_mask
from wsi_mil.geojson import class_of, geometry_of, offset_of, polygonal, read_features

TUMOUR_GROUPS = {"tumor", "_0", "_1", "metastases"}
EXCLUDED_GROUPS = {"exclusion", "_2", "normal"}
TUMOUR_CLASSES = {"tumor", "tumour", "cancer", "metastasis", "metastases", "lesion", "positive"}
OUTLINES = (".xml", ".geojson", ".json", ".geojson.gz")
MASKS = ("_mask.tif", "_Mask.tif", "_mask.tiff", ".tif", ".tiff")
SUFFIXES = (*OUTLINES, *MASKS)


@dataclass(frozen=True)
class AnnotationFolder:
    """A folder with one annotation file per slide.

    bounds: whether GeoJSON that does not name its frame is in coordinates that are cropped to the slide's
    bounds.
    """

    path: Path
    bounds: BoundsMode = "auto"

    def find(self, slide_id: str) -> Path | None:
        """Return the file of a slide, or None. It is named by the slide id and an ending of `SUFFIXES`.

        If there are several, outlines come before masks, and XML comes before GeoJSON.
        """
        for suffix in SUFFIXES:
            path = self.path / f"{slide_id}{suffix}"
            if path.exists():
                return path
        return None


def read_annotations(
    path: Path, slide_id: str, info: SlideInfo | None = None, bounds: BoundsMode = "auto"
) -> list[Lesion]:
    """Return the lesions of one file: one per connected region of the tumour polygons minus the excluded
    ones.

    info: needed for masks. If given, GeoJSON from QuPath's cropped frame is moved to level-0 coordinates
    (`bounds`: whether QuPath crops). Raises DataError, which names the file, if the file cannot be read, and
    for a lesion outside the slide of `info`.
    """
    try:
        plus, minus = _read(path, info, bounds)
    except DataError as error:
        raise error if path.name in str(error) else DataError(f"{path}: {error}") from error
    regions = polygonal(shapely.difference(shapely.union_all(plus), shapely.union_all(minus)))
    lesions = [Lesion(slide_id, "tumour", MultiPolygon([region])) for region in regions.geoms]
    if info is not None:
        slide = shapely.box(0, 0, info.width_px, info.height_px)
        for lesion in lesions:
            if not lesion.geometry.intersects(slide):
                raise DataError(
                    f"{path.name}: a lesion spans {[round(v) for v in lesion.geometry.bounds]} px, outside "
                    f"slide {slide_id!r} of {info.width_px} x {info.height_px} px: "
                    "drawn on another slide or at another scale"
                )
    return lesions


def _read(
    path: Path, info: SlideInfo | None, bounds: BoundsMode
) -> tuple[list[MultiPolygon], list[MultiPolygon]]:
    """Return the polygons of tumour, and those that are excluded from it."""
    if path.suffix in (".tif", ".tiff"):
        if info is None:
            raise DataError("a mask cannot be placed without its slide")
        return [read_mask(path, info)], []
    return _read_asap(path) if path.suffix == ".xml" else _read_geojson(path, info, bounds)


def _read_asap(path: Path) -> tuple[list[MultiPolygon], list[MultiPolygon]]:
    """Return the polygons of tumour groups and of exclusion groups. Other groups, points and lines are
    ignored.

    Raises DataError for a file that is not valid. External entities and entities that expand without end
    ("billion laughs") are refused before they are expanded.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, DefusedXmlException, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable ASAP file ({type(error).__name__}: {error})") from error
    if root is None:
        raise DataError(f"{path} holds no XML element")
    plus: list[MultiPolygon] = []
    minus: list[MultiPolygon] = []
    for annotation in root.iter("Annotation"):
        group = annotation.get("PartOfGroup", "").lower()
        if group not in TUMOUR_GROUPS | EXCLUDED_GROUPS:
            continue
        try:
            ordered = sorted(
                (float(node.get("Order", i)), float(node.attrib["X"]), float(node.attrib["Y"]))
                for i, node in enumerate(annotation.iter("Coordinate"))
            )
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{path}: annotation {annotation.get('Name')!r} has a coordinate without number ({error})"
            ) from error
        if len(ordered) < 3:
            continue
        ring = [(x, y) for _, x, y in ordered]
        polygon = Polygon(ring)
        # an outline that crosses itself encloses the points whose winding number is not zero
        shape = (
            polygonal(polygon)
            if polygon.is_valid
            else polygonal(polygon.buffer(0) if _simple(ring) else _wound(ring))
        )
        (plus if group in TUMOUR_GROUPS else minus).append(shape)
    return plus, minus


def _simple(ring: list[tuple[float, float]]) -> bool:
    return bool(shapely.LinearRing(ring).is_simple)


def _wound(ring: list[tuple[float, float]]) -> MultiPolygon:
    """Return the area that a self-crossing ring encloses by the non-zero winding rule.

    The ring cuts the plane into faces; those with a winding number other than 0 belong to the area.
    """
    lines = shapely.union_all(shapely.LinearRing(ring))
    faces = shapely.get_parts(shapely.polygonize([lines]))
    inside = [face for face in faces if _winding(ring, face.representative_point().coords[0]) != 0]
    return polygonal(shapely.union_all(inside))


def _winding(ring: list[tuple[float, float]], point: tuple[float, float]) -> int:
    """Return how often the ring goes around the point (Sunday's winding number algorithm, 2001)."""
    x, y = point[:2]
    turns = 0
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        if y0 <= y < y1 and side > 0:
            turns += 1
        elif y1 <= y < y0 and side < 0:
            turns -= 1
    return turns


def _read_geojson(
    path: Path, info: SlideInfo | None, bounds: BoundsMode
) -> tuple[list[MultiPolygon], list[MultiPolygon]]:
    features, header = read_features(path)
    offset = offset_of(header, qupath_frame(info, bounds).offset_px if info else (0, 0))
    plus: list[MultiPolygon] = []
    minus: list[MultiPolygon] = []
    for item in features:
        geometry = geometry_of(item, offset)
        name = (class_of(item) or "tumor").lower()
        if geometry is None or geometry.is_empty:
            continue
        if name in TUMOUR_CLASSES:
            plus.append(geometry)
        elif name in EXCLUDED_GROUPS:
            minus.append(geometry)
    return plus, minus
