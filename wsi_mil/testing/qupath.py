"""QuPath's rules for GeoJSON, one check each, on a finished file: read by plain JSON and by GDAL, not by our
reader.

A file that passes is one that QuPath's own source, as read at 0.3.0 to 0.7.0, imports whole.
"""

import gzip
import json
import math
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shapely

from wsi_mil.contracts.qupath import QuPathVersion

OBJECT_TYPES = {"annotation", "detection", "cell", "tile", "tmaCore"}
GEOMETRIES = {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"}


def broken_rules(path: Path, frame_px: tuple[int, int], version: QuPathVersion = "0.4") -> list[str]:
    """Return a line for every rule that the file breaks, empty if none. `frame_px`: (width, height) as QuPath
    shows it."""
    raw = path.read_bytes()
    problems = []
    packed = path.name.endswith(".geojson.gz")
    if not (path.name.endswith((".geojson", ".json")) or (packed and version != "0.3")):
        problems.append(f"Q4/Q45: QuPath {version} does not import {path.name}")
    raw = gzip.decompress(raw) if packed else raw
    if not raw.isascii():
        problems.append("Q5: not ASCII")
    try:
        value = json.loads(raw, object_pairs_hook=_once, parse_constant=_no_constant)
    except ValueError as error:
        return [*problems, f"Q6/Q19: {error}"]
    if value.get("type") != "FeatureCollection" or not isinstance(value.get("features"), list):
        return [*problems, "Q1: not one FeatureCollection"]
    for number, item in enumerate(value["features"]):
        problems += [f"feature {number}: {problem}" for problem in _feature(item, frame_px, version)]
    ids = [item.get("id") for item in value["features"]]
    if len(set(ids)) != len(ids):
        problems.append("Q9: ids are not unique")
    header = value.get("wsi_mil", {})
    if "bounds_offset_px" not in header or "slide_size_px" not in header:
        problems.append("Q39: the file does not say what it did about bounds")
    return problems or list(_gdal(raw, value["features"]))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError(f"a key is repeated among {[key for key, _ in pairs]}")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _feature(item: dict[str, Any], frame_px: tuple[int, int], version: QuPathVersion) -> Iterator[str]:
    if item.get("type") != "Feature":
        yield "Q2: no type Feature"
    properties = item.get("properties", {})
    if not isinstance(properties, dict):
        yield "Q7: properties is no object"
        return
    if _has_null(item):
        yield "Q8: a null"
    try:
        uuid.UUID(item["id"])
    except (KeyError, ValueError):
        yield "Q9: id is no UUID"
    kind = "object_type" if version == "0.3" else "objectType"
    if properties.get(kind) not in OBJECT_TYPES or kind in item:
        yield f"Q13/Q14/Q42: {kind} is {properties.get(kind)!r}"
    if "type" in properties or (version != "0.3" and "object_type" in properties):
        yield "Q15: a second object type"
    if not isinstance(properties.get("name", ""), str):
        yield "Q11: name is no text"
    if any(isinstance(v, dict | list) for v in properties.get("metadata", {}).values()):
        yield "Q12: metadata is nested"
    yield from _measurements(properties.get("measurements"), version)
    yield from _classification(properties.get("classification"), version)
    yield from _geometry(item.get("geometry"), frame_px)


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return any(map(_has_null, value)) if isinstance(value, list) else value is None


def _measurements(found: Any, version: QuPathVersion) -> Iterator[str]:
    if found is None:
        return
    if version == "0.3":
        if not isinstance(found, list) or any(set(entry) != {"name", "value"} for entry in found):
            yield "Q43: measurements are no list of name and value"
            return
        values = [entry["value"] for entry in found]
    elif isinstance(found, dict):
        values = list(found.values())
    else:
        yield "Q17: measurements are no object"
        return
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in values):
        yield "Q18: a measurement is no finite number"


def _classification(found: Any, version: QuPathVersion) -> Iterator[str]:
    if found is None:
        return
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        yield "Q21: classification without name"
        return
    if ":" in found["name"]:
        yield "Q23: a colon in the class name"
    if version == "0.3":
        packed = found.get("colorRGB")
        if type(packed) is not int or not -(2**31) <= packed < 2**31:
            yield f"Q44: colorRGB is {packed!r}"
        return
    colour = found.get("color")
    if not isinstance(colour, list) or len(colour) not in (3, 4):
        yield f"Q21: color is {colour!r}"
    elif any(type(v) is not int or not 0 <= v <= 255 for v in colour):
        yield f"Q24: color is {colour!r}"


def _geometry(found: Any, frame_px: tuple[int, int]) -> Iterator[str]:
    if not isinstance(found, dict) or found.get("type") not in GEOMETRIES:
        yield f"Q27/Q28: geometry is {found.get('type') if isinstance(found, dict) else found!r}"
        return
    corners = found.get("coordinates", [])
    polygons = {"Polygon": [corners], "MultiPolygon": corners}.get(found["type"], [])
    rings = [ring for polygon in polygons for ring in polygon]
    if any(ring[0] != ring[-1] or len(ring) < 4 for ring in rings):
        yield "Q29: an open or too short ring"
        return
    shape = shapely.from_geojson(json.dumps(found))
    x0, y0, x1, y1 = shape.bounds
    if x0 < 0 or y0 < 0 or x1 > frame_px[0] or y1 > frame_px[1]:
        yield f"Q40: {shape.bounds} lies outside the image of {frame_px}"
    if any(round(v, 2) != v for xy in shapely.get_coordinates(shape).tolist() for v in xy):
        yield "Q30: a coordinate off the 0.01 px grid"
    if not shape.is_valid or shape.is_empty:
        yield "Q30: an invalid geometry"
    elif not shapely.set_precision(shape, 0.01).equals(shape):
        yield "Q31: the 0.01 px grid changes the geometry"


def _gdal(raw: bytes, features: list[dict[str, Any]]) -> Iterator[str]:
    """An independent reader finds the same shapes in the same order."""
    import pyogrio

    if not features:
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.geojson"
        plain.write_bytes(raw)
        _, _, shapes, _ = pyogrio.raw.read(plain)
    if len(shapes) != len(features):
        yield f"GDAL reads {len(shapes)} features of {len(features)}"
    for item, shape in zip(features, shapely.from_wkb(shapes), strict=False):
        if not shapely.from_geojson(json.dumps(item["geometry"])).equals(shape):
            yield f"GDAL reads another shape for {item['id']}"
