"""GeoJSON as QuPath imports it: features written one by one, every one checked before it is written.

The rules Q1 to Q53 are those that QuPath's own source implies (docs/contracts.md says which we hold to). In
short: one FeatureCollection, ASCII, no nulls and no NaN, `objectType` inside `properties`, a colour with
every class, polygons valid on a grid of 0.01 px, stable UUIDs, coordinates in the frame that QuPath shows.
"""

import gzip
import hashlib
import math
import re
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import shapely
from shapely import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from wsi_mil import limits
from wsi_mil.contracts.qupath import QuPathVersion
from wsi_mil.errors import DataError
from wsi_mil.io.bounded import read_unpacked
from wsi_mil.io.files import write_aside
from wsi_mil.io.json import compact_json, decode_json, json_line, parse_json
from wsi_mil.outlines import check_outline

GRID_PX = 0.01
NAMESPACE = uuid.UUID("5f0c8d1e-2b34-5a67-9c80-77736d696c00")
_NAMED = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
LARGEST_PX = 1e9  # of a coordinate that is read
OBJECT_TYPES = {"annotation", "detection", "cell", "tile", "tmacore", "root"}
LINES = 512  # that are written, and compressed, at once
Feature = dict[str, Any]
Colour = tuple[int, int, int]


def stable_id(*parts: object) -> str:
    """Return a UUID that is the same for the same parts in every run (Q9, Q10).

    >>> stable_id("a", 1) == stable_id("a", 1) != stable_id("a", 2)
    True
    """
    named = _NAMED.copy()  # uuid5 by hand: a third of its time, and there are a million of them
    named.update("\x1f".join(map(str, parts)).encode())
    raw = bytearray(named.digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def polygonal(geometry: BaseGeometry, grid_px: float = 0.0) -> MultiPolygon:
    """Return the polygonal part of `geometry`, valid; on a grid of `grid_px` if not 0 (Q27 to Q31). May be
    empty."""
    if not geometry.is_valid:
        check_outline(geometry, "an outline")
        geometry = shapely.make_valid(geometry)
    if grid_px > 0:
        geometry = shapely.set_precision(geometry, grid_px)
    parts = [part for part in shapely.get_parts(geometry) if isinstance(part, Polygon | MultiPolygon)]
    polygons = [p for part in parts for p in shapely.get_parts(part) if not p.is_empty]
    return MultiPolygon(polygons)


@dataclass(frozen=True)
class Rectangle:
    """A tile in whole pixels: the one geometry that is written by the million and needs no checking by
    GEOS."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise DataError(f"a rectangle from ({self.x0}, {self.y0}) to ({self.x1}, {self.y1}) has no area")


def feature(
    geometry: Polygon | MultiPolygon | Point | Rectangle,
    *,
    object_type: str,
    uid: str,
    class_name: str | None = None,
    colour: Colour = (128, 128, 128),
    name: str | None = None,
    measurements: Mapping[str, float] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Feature:
    """Return one Feature. Measurements that are not finite are left out (Q18); raises DataError on bad
    geometry."""
    if class_name is not None and ":" in class_name:
        raise DataError(
            f"class name {class_name!r}: QuPath splits names at ': ' (Q23); use a name without colon"
        )
    if not isinstance(geometry, Rectangle) and (geometry.is_empty or not geometry.is_valid):
        raise DataError(
            f"geometry of {name or uid} is empty or crosses itself; QuPath would refuse the file (Q30)"
        )
    properties: dict[str, Any] = {"objectType": object_type}
    if name is not None:
        properties["name"] = name
    if class_name is not None:
        properties["classification"] = {"name": class_name, "color": [int(value) for value in colour]}
    finite = {key: _significant(value) for key, value in (measurements or {}).items() if math.isfinite(value)}
    if finite:
        properties["measurements"] = finite
    if metadata:
        properties["metadata"] = {key: str(value) for key, value in metadata.items()}
    return {"type": "Feature", "id": uid, "geometry": _coordinates(geometry), "properties": properties}


def _significant(value: float) -> float:
    return float(f"{value:.6g}")


def _coordinates(geometry: Polygon | MultiPolygon | Point | Rectangle) -> dict[str, Any]:
    if isinstance(geometry, Rectangle):
        x0, y0, x1, y1 = geometry.x0, geometry.y0, geometry.x1, geometry.y1
        return {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]}
    if isinstance(geometry, Point):
        return {"type": "Point", "coordinates": [_plain(geometry.x), _plain(geometry.y)]}
    if isinstance(geometry, MultiPolygon) and len(geometry.geoms) == 1:
        geometry = geometry.geoms[0]
    if isinstance(geometry, Polygon):
        return {"type": "Polygon", "coordinates": _rings(geometry)}
    return {"type": "MultiPolygon", "coordinates": [_rings(polygon) for polygon in geometry.geoms]}


def _rings(polygon: Polygon) -> list[list[list[float]]]:
    return [
        [[_plain(x), _plain(y)] for x, y, *_ in ring.coords]
        for ring in (polygon.exterior, *polygon.interiors)
    ]


def _plain(value: float) -> float:
    """Two decimals, and a whole number where it is one."""
    rounded = round(value, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def write_features(
    path: Path, features: Iterable[Feature], header: Mapping[str, Any], version: QuPathVersion = "0.4"
) -> int:
    """Stream `features` into one FeatureCollection at `path` (gzip if it ends in .gz); return how many.

    `header` becomes the foreign member "wsi_mil" (Q39). `version` "0.3": the form of QuPath 0.3.x (Q42 to
    Q45). The
    bytes depend on the content only.
    """
    endings = (".geojson", ".json") if version == "0.3" else (".geojson", ".json", ".geojson.gz")
    if not path.name.endswith(endings):
        raise DataError(f"{path.name}: QuPath {version} imports {', '.join(endings)} only (Q4, Q45)")
    if version == "0.3":
        features = map(_old_form, features)
    with write_aside(path) as aside, aside.open("wb") as raw:
        if path.suffix != ".gz":
            with raw:
                return _stream(raw, features, header)
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=4) as packed:
            return _stream(packed, features, header)


def _stream(handle: IO[bytes] | gzip.GzipFile, features: Iterable[Feature], header: Mapping[str, Any]) -> int:
    said = compact_json(dict(header))
    handle.write(f'{{"type":"FeatureCollection","wsi_mil":{said},"features":['.encode())
    source, count = iter(features), 0
    while lines := [_dump(item) for item in islice(source, LINES)]:
        handle.write((b",\n" if count else b"\n") + b",\n".join(lines))
        count += len(lines)
    handle.write(b"\n]}\n")
    return count


def _old_form(item: Feature) -> Feature:
    """Return a feature as QuPath 0.3.x reads it: `object_type`, measurements as a list, a packed colour."""
    properties = dict(item["properties"])
    old: dict[str, Any] = {"object_type": properties.pop("objectType")}
    if "classification" in properties:
        red, green, blue = properties["classification"]["color"]
        packed = (0xFF << 24 | red << 16 | green << 8 | blue) - (1 << 32)
        properties["classification"] = {"name": properties["classification"]["name"], "colorRGB": packed}
    if "measurements" in properties:
        values = properties["measurements"].items()
        properties["measurements"] = [{"name": name, "value": value} for name, value in values]
    return item | {"properties": old | properties}


def _dump(item: Any) -> bytes:
    """Return ASCII JSON (Q5). Measurements and geometry are finite by now (Q6): orjson would write null for
    NaN."""
    text = orjson.dumps(item)
    return text if text.isascii() else compact_json(item).encode()


def read_features(path: Path) -> tuple[list[Feature], dict[str, Any]]:
    """Return the features of a QuPath export and the "wsi_mil" member if it has one.

    Read are a collection, a list, a single feature or a bare geometry; packed with gzip or not; in UTF-8,
    UTF-16 or UTF-32 (Q1, Q48 to Q52). Raises DataError that names the file.
    """
    try:
        value = parse_json(decode_json(read_unpacked(path, limits.GEOJSON_BYTES)))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise DataError(f"{path} is not GeoJSON ({type(error).__name__}: {error})") from error
    header = value.get("wsi_mil", {}) if isinstance(value, dict) else {}
    found = list(islice(_walk(value), limits.OBJECTS.most + 1))
    limits.OBJECTS.check(len(found), str(path))
    empty = value == [] or (isinstance(value, dict) and value.get("type") == "FeatureCollection")
    if not found and not empty:
        raise DataError(f"{path} holds no GeoJSON feature: expected a FeatureCollection as QuPath exports it")
    return found, header if isinstance(header, dict) else {}


def _walk(value: Any) -> Iterator[Feature]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(item)
    elif isinstance(value, dict):
        if value.get("type") == "Feature" or "geometry" in value:
            yield value
            properties = value.get("properties") or {}
            if isinstance(properties, dict):
                yield from _walk(properties.get("childObjects") or properties.get("children") or [])
        elif isinstance(value.get("features"), list):
            yield from _walk(value["features"])
        elif "coordinates" in value or isinstance(value.get("geometries"), list):
            yield {"type": "Feature", "geometry": value}


def object_type(item: Feature) -> str:
    """Return the type of a QuPath object: annotation, detection, cell, tile, tmacore, root (Q13 to Q15).

    Also of the names that QuPath 0.2 and 0.3 wrote. "annotation" where no type that QuPath has is named.

    >>> object_type({"properties": {"objectType": "cell"}}), object_type({"id": "PathTileObject"})
    ('cell', 'tile')
    """
    properties = item.get("properties")
    known = properties if isinstance(properties, dict) else {}
    given = [known[key] for key in ("objectType", "object_type", "type") if key in known][:1]
    for name in [*given, item.get("id")]:
        text = re.sub(r"^path(?=.*object$)|object$|_", "", str(name).lower())
        if text in OBJECT_TYPES:
            return text
    return "annotation"


def class_names(item: Feature) -> tuple[str, ...]:
    """Return the class names of a feature, none where it has no class.

    A derived class is one name, "Tumor: Positive". Several classes (`classifications`) are several names.

    >>> class_names({"properties": {"classifications": ["Tumor", {"names": ["Ki67", "Positive"]}]}})
    ('Tumor', 'Ki67: Positive')
    """
    properties = item.get("properties")
    if not isinstance(properties, dict):
        return ()
    given = [properties.get("classification"), properties.get("classifications")]
    values = [part for value in given for part in (value if isinstance(value, list) else [value])]
    names = [class_of({"properties": {"classification": _parsed(value)}}) for value in values]
    return tuple(name for name in names if name)


def _parsed(classification: object) -> object:
    """Return the object in a classification that GDAL wrote as JSON text; anything else unchanged."""
    if isinstance(classification, str) and classification.lstrip().startswith("{"):
        try:
            return parse_json(classification)
        except ValueError:
            return classification
    return classification


def class_of(item: Feature) -> str | None:
    """Return the class name of a feature, in any of the forms that QuPath has exported (Q49)."""
    properties = item.get("properties")
    classification = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(classification, dict):
        names = classification.get("names")
        joined = ": ".join(map(str, names)) if isinstance(names, list) and names else None
        classification = classification.get("name") or joined
    return classification if isinstance(classification, str) else None


def offset_of(header: Mapping[str, Any], otherwise: tuple[int, int]) -> tuple[float, float]:
    """Return the bounds offset that a file of ours says it was shifted by; `otherwise` for files of others
    (Q53)."""
    offset = header.get("bounds_offset_px", otherwise)
    finite = isinstance(offset, list | tuple) and len(offset) == 2 and all(map(_is_finite, offset))
    if not finite:
        raise DataError(f"wsi_mil.bounds_offset_px is {str(offset)[:60]}, expected two finite numbers")
    return float(offset[0]), float(offset[1])


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= LARGEST_PX


def geometry_of(item: Feature, offset_px: tuple[float, float] = (0.0, 0.0)) -> MultiPolygon | None:
    """Return the area of a feature in level-0 pixels, or None for points and open lines.

    Of a GeometryCollection, the area of its parts together. A line that ends where it starts encloses area.
    `offset_px` is added: the bounds offset of the frame that QuPath showed (Q34, Q53). Raises DataError for a
    geometry that cannot be read.
    """
    geometry = item.get("geometry")
    found = _areas(geometry) if isinstance(geometry, dict) else []
    if not found:
        return None
    where = f"a {geometry['type'] if isinstance(geometry, dict) else ''} of feature {item.get('id')}"
    try:
        shapes = [shapely.from_geojson(json_line(area)) for area in found]
    except (shapely.errors.GEOSException, TypeError, ValueError) as error:
        what = " ".join(str(error).split())
        raise DataError(f"{where} cannot be read ({what})") from error
    corners = shapely.get_coordinates(shapes)
    if not (np.abs(corners) <= LARGEST_PX).all():  # false for NaN
        raise DataError(f"{where} has a coordinate that is no finite number of at most {LARGEST_PX:g} px")
    for shape in shapes:
        check_outline(shape, where)
    moved = [polygonal(shapely.transform(shape, lambda xy: xy + list(offset_px))) for shape in shapes]
    return moved[0] if len(moved) == 1 else polygonal(shapely.union_all(moved))


def _areas(geometry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a GeoJSON geometry that enclose area, as polygons of GeoJSON."""
    kind, value = geometry.get("type"), geometry.get("coordinates")
    if kind in ("Polygon", "MultiPolygon"):
        return [{"type": kind, "coordinates": value}]
    if kind == "GeometryCollection":
        parts = geometry.get("geometries")
        inner = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        return [area for part in inner for area in _areas(part)]
    lines = [value] if kind == "LineString" else value if kind == "MultiLineString" else []
    lines = lines if isinstance(lines, list) else []
    closed = [line for line in lines if isinstance(line, list) and len(line) > 3 and line[0] == line[-1]]
    return [{"type": "Polygon", "coordinates": [line]} for line in closed]
