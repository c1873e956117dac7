"""QuPath's rules, cited by number (docs/contracts.md), on what we write; and what we accept of QuPath's
exports."""

import gzip
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely import MultiPolygon, Polygon

from wsi_mil.errors import DataError, MachineError
from wsi_mil.geojson import (
    GRID_PX,
    class_of,
    feature,
    geometry_of,
    polygonal,
    read_features,
    stable_id,
    write_features,
)

BOX = shapely.box(512, 256, 768, 512)


def one(**options: object) -> dict:  # type: ignore[type-arg]
    settings = {
        "object_type": "tile",
        "uid": stable_id("s", 1),
        "class_name": "Tumor",
        "colour": (200, 0, 0),
    } | options
    return feature(BOX, **settings)  # type: ignore[arg-type]


def strict(path: Path) -> dict:  # type: ignore[type-arg]
    """Plain JSON that refuses repeated keys and NaN."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    def constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON (Q6)")

    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("ascii")  # Q5
    return json.loads(text, object_pairs_hook=unique, parse_constant=constant)  # type: ignore[no-any-return]


def test_a_file_follows_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "x.geojson.gz"  # Q4
    count = write_features(path, [one(name="größe", measurements={"p": np.float32(0.93)})], {"slide_id": "ä"})
    value = strict(path)
    assert count == 1
    assert value["type"] == "FeatureCollection"  # Q1
    item = value["features"][0]
    assert item["type"] == "Feature"  # Q2
    assert str(uuid.UUID(item["id"])) == item["id"]  # Q9
    properties = item["properties"]
    assert properties["objectType"] == "tile"  # Q13, Q14
    assert "type" not in properties  # Q15
    assert "object_type" not in properties
    assert properties["measurements"] == {"p": 0.93}  # Q17
    assert properties["classification"] == {"name": "Tumor", "color": [200, 0, 0]}  # Q21, Q24
    ring = item["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]  # Q29
    assert len(ring) >= 4
    assert all(isinstance(number, int) for point in ring for number in point)  # Q47
    assert "null" not in gzip.decompress(path.read_bytes()).decode()  # Q8


def test_an_independent_reader_reads_it(tmp_path: Path) -> None:
    import geopandas

    path = tmp_path / "x.geojson"
    write_features(path, [one(), one(uid=stable_id("s", 2))], {})
    frame = geopandas.read_file(path)
    assert list(shapely.area(frame.geometry.values)) == [256 * 256, 256 * 256]


def test_values_that_qupath_would_choke_on_are_left_out() -> None:
    item = one(measurements={"a": float("nan"), "b": float("inf"), "c": 1 / 3}, name=None)
    assert item["properties"]["measurements"] == {"c": 0.333333}  # Q18, Q47
    assert "name" not in item["properties"]  # Q8
    assert "measurements" not in one(measurements={"a": float("nan")})["properties"]


def test_a_colon_in_a_class_name_is_refused() -> None:
    with pytest.raises(DataError, match="Q23"):
        one(class_name="Tumor: positive")


def test_colours_are_whole_numbers_even_from_numpy() -> None:
    colour = one(colour=tuple(np.array([254, 1, 2], np.int32)))["properties"]["classification"]["color"]
    assert json.dumps(colour) == "[254, 1, 2]"  # Q24


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), 50.0),  # bow-tie
        (shapely.union(shapely.box(0, 0, 5, 5), shapely.box(5, 5, 9, 9)), 41.0),  # touching in a point
        (shapely.box(0, 0, 8, 8).difference(shapely.box(0, 2, 4, 4)), 56.0),  # hole that touches the shell
        (shapely.MultiPolygon([shapely.box(0, 0, 5, 5), shapely.box(20, 0, 20.001, 9)]), 25.0),  # sliver, Q31
        (
            shapely.GeometryCollection([shapely.box(0, 0, 3, 3), shapely.LineString([(9, 9), (10, 10)])]),
            9.0,
        ),  # Q28
    ],
)
def test_geometry_is_made_valid_on_the_grid(shape: shapely.Geometry, area: float) -> None:
    fixed = polygonal(shape, GRID_PX)
    assert fixed.is_valid
    assert fixed.area == pytest.approx(area)
    again = shapely.set_precision(fixed, GRID_PX)
    assert again.equals(fixed)  # Q30: QuPath's own reduction changes nothing
    kinds = feature(fixed, object_type="annotation", uid=stable_id(1))["geometry"]["type"]
    assert kinds in ("Polygon", "MultiPolygon")  # Q27, Q28


def test_invalid_geometry_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Q30"):
        feature(Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), object_type="tile", uid=stable_id(1))
    with pytest.raises(DataError, match="Q30"):
        feature(MultiPolygon(), object_type="tile", uid=stable_id(1))


def test_an_empty_result_is_a_collection_of_none(tmp_path: Path) -> None:
    write_features(tmp_path / "e.geojson", [], {"kind": "x"})
    assert strict(tmp_path / "e.geojson")["features"] == []
    assert read_features(tmp_path / "e.geojson") == ([], {"kind": "x"})


def test_endings_that_qupath_ignores_are_refused(tmp_path: Path) -> None:
    for name in ("x.zip", "x.gz", "x.txt"):
        with pytest.raises(DataError, match="Q4"):
            write_features(tmp_path / name, [], {})


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in ("a.geojson.gz", "b.geojson.gz"):
        write_features(tmp_path / name, [one()], {})
    assert (tmp_path / "a.geojson.gz").read_bytes() == (tmp_path / "b.geojson.gz").read_bytes()


def test_an_error_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    def items():  # type: ignore[no-untyped-def]
        yield one()
        raise OSError(28, "No space left on device")

    with pytest.raises(MachineError, match="No space"):
        write_features(tmp_path / "x.geojson.gz", items(), {})
    assert list(tmp_path.iterdir()) == []


GEOMETRY = {
    "type": "Polygon",
    "coordinates": [[[0, 0], [4, 0], [4, 3], [0, 0]]],
    "isEllipse": True,
    "plane": {"c": -1},
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": GEOMETRY}]}),
        json.dumps([{"type": "Feature", "geometry": GEOMETRY, "properties": {"classification": None}}]),
        "\ufeff" + json.dumps({"type": "Feature", "geometry": GEOMETRY, "properties": None}),
        '{"type":"Feature","geometry":'
        + json.dumps(GEOMETRY)
        + ',"properties":{"metadata":{"a":"1"},"metadata":{"a":"1"}}}',
    ],
)
def test_every_form_that_qupath_exports(text: str, tmp_path: Path) -> None:
    """Q48, Q51, Q52."""
    (tmp_path / "x.geojson").write_text(text, encoding="utf-8")
    (tmp_path / "x.geojson.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("x.geojson", "x.geojson.gz"):
        features, _ = read_features(tmp_path / name)
        shape = geometry_of(features[0], (100, 50))
        assert shape is not None
        assert shape.area == 6.0
        assert shape.bounds == (100, 50, 104, 53)  # Q34


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_of_editors(encoding: str, tmp_path: Path) -> None:
    """Windows editors save text as UTF-16; the name of the class is read as it was written."""
    feature = {"type": "Feature", "geometry": GEOMETRY, "properties": {"classification": "Läsion"}}
    data = json.dumps(feature, ensure_ascii=False).encode(encoding)
    (tmp_path / "x.geojson").write_bytes(data)
    (tmp_path / "x.geojson.gz").write_bytes(gzip.compress(data))
    for name in ("x.geojson", "x.geojson.gz"):
        [found], _ = read_features(tmp_path / name)
        assert found["properties"]["classification"] == "Läsion"


def test_text_of_an_older_code_page_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"
    path.write_bytes('{"type": "Feature", "name": "Läsion"}'.encode("cp1252"))
    with pytest.raises(DataError, match=r"x\.geojson is not GeoJSON \(UnicodeDecodeError"):
        read_features(path)


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        (None, None),
        ("Tumor", "Tumor"),
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive"),
        ({}, None),
    ],
)
def test_every_form_of_a_class(classification: object, name: str | None) -> None:
    """Q49."""
    assert class_of({"properties": {"classification": classification}}) == name


def test_points_are_no_polygons_and_nonsense_is_told_by_file(tmp_path: Path) -> None:
    assert geometry_of({"geometry": {"type": "Point", "coordinates": [1, 2]}}) is None
    for text in ("{", "[1, 2]", '"x"', "{}"):
        (tmp_path / "bad.geojson").write_text(text)
        with pytest.raises(DataError, match=r"bad\.geojson"):
            read_features(tmp_path / "bad.geojson")
