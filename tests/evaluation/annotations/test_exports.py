"""What versions and settings of the tools write; areas by hand, of a box of 300 x 200 px or parts of it."""

import json
from pathlib import Path

import pytest

from tests.evaluation.annotations import files
from tests.evaluation.annotations.files import BOX, BOX_AREA, INFO
from wsi_mil.errors import DataError
from wsi_mil.evaluation.annotations import SlideAnnotation, read_annotation_file

RING = [[x, y] for x, y in [*BOX, BOX[0]]]
HOLE = [[120, 120], [220, 120], [220, 220], [120, 220], [120, 120]]
TRIANGLE = [[1000, 1000], [1100, 1000], [1100, 1100], [1000, 1000]]
TUMOR = {"name": "Tumor", "color": [200, 0, 0]}
ONE = files.feature(classification=TUMOR, objectType="annotation")
WITHOUT_GEOMETRY = {**ONE, "geometry": None}


def area(found: SlideAnnotation) -> float:
    return float(sum(lesion.geometry.area for lesion in found.lesions))


@pytest.mark.parametrize(
    ("value", "expected", "objects"),
    [
        ({"type": "FeatureCollection", "features": [ONE]}, BOX_AREA, 1),
        ([ONE], BOX_AREA, 1),
        (ONE, BOX_AREA, 1),
        ({**ONE, "id": "PathAnnotationObject", "properties": {"classification": TUMOR}}, BOX_AREA, 1),
        ([WITHOUT_GEOMETRY, ONE], BOX_AREA, 2),
        ([{"type": "Feature", "properties": {"classification": TUMOR}}, ONE], BOX_AREA, 2),
        ([{**ONE, "properties": None}, ONE], BOX_AREA, 2),
        (files.feature([RING, HOLE], TUMOR), BOX_AREA - 100 * 100, 1),
        (files.feature([[RING, HOLE], [TRIANGLE]], TUMOR, "MultiPolygon"), BOX_AREA - 10_000 + 5000, 1),
        (files.feature(RING, TUMOR, "LineString"), BOX_AREA, 1),
        ([ONE, files.feature(RING[:-1], TUMOR, "LineString")], BOX_AREA, 2),
        (files.feature(classification={"names": ["Tumor"], "color": [1, 2, 3]}), BOX_AREA, 1),
        (files.feature([[[x, y, 0] for x, y in RING]], TUMOR), BOX_AREA, 1),
        (files.feature(classification=TUMOR, isLocked=True, name="a", measurements={}), BOX_AREA, 1),
    ],
)
def test_forms_of_qupath(tmp_path: Path, value: object, expected: float, objects: int) -> None:
    for number, text in enumerate((json.dumps(value), "\ufeff" + json.dumps(value, indent=1))):
        path = tmp_path / f"{number}.geojson"
        path.write_bytes(text.replace("\n", "\r\n").encode())
        found = read_annotation_file(path, "s", INFO)
        assert area(found) == pytest.approx(expected)
        assert (found.objects, found.used) == (objects, 1)


XML = {
    "s.xml": files.asap(("Polygon", "Métastase", BOX)).partition("?>")[2],
    "t.xml": files.imagescope('Name="Métastase"', files.region(BOX)),
}


@pytest.mark.parametrize("name", XML)
@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16"),
        ('<?xml version="1.0"?>', "utf-16"),
        ("", "utf-16"),
        ('<?xml version="1.0" encoding="utf-8"?>', "utf-8-sig"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>', "latin-1"),
        ('<?xml version="1.0" encoding="windows-1252" standalone="yes"?>', "cp1252"),
    ],
)
def test_encodings_and_line_ends_of_xml(tmp_path: Path, name: str, declared: str, encoding: str) -> None:
    (tmp_path / name).write_bytes((declared + XML[name]).replace("><", ">\r\n<").encode(encoding))
    found = read_annotation_file(tmp_path / name, "s", INFO)
    assert area(found) == BOX_AREA
    assert found.lesions[0].sources == ("Métastase",)


@pytest.mark.parametrize("name", XML)
def test_xml_in_another_encoding_than_it_states_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(('<?xml version="1.0" encoding="utf-8"?>' + XML[name]).encode("latin-1"))
    with pytest.raises(DataError, match=rf"{name} is not readable XML"):
        read_annotation_file(tmp_path / name, "s", INFO)


def test_decimal_commas_are_read_where_they_are_no_thousands(tmp_path: Path) -> None:
    """In the XML of ASAP and ImageScope; a corner of 100,5 px lies half a pixel on."""
    path = tmp_path / "s.xml"
    for write in (
        lambda corners: files.asap(("Polygon", "Tumor", corners)),
        lambda corners: files.imagescope('Name="Tumor"', files.region(corners)),
    ):
        path.write_text(write([(f"{x},5", f"{y},25") for x, y in BOX]))
        found = read_annotation_file(path, "s", INFO)
        assert found.lesions[0].geometry.bounds == (100.5, 100.25, 400.5, 300.25)
        path.write_text(write([(f"{x},125", f"{y},250") for x, y in BOX]))
        with pytest.raises(DataError, match=r"s\.xml: .*'100,125' .*may separate thousands or decimals"):
            read_annotation_file(path, "s", INFO)


@pytest.mark.parametrize(
    ("kind", "corners", "removed"),
    [
        (0, [(100, 100), (200, 100), (200, 200), (100, 200)], 100 * 100),
        (1, [(100, 100), (200, 150)], 100 * 50),
        (2, [(200, 150), (300, 250)], 3.14159265 * 50 * 50),
        (3, [(100, 100), (200, 200)], 0),
    ],
)
def test_negative_regions_of_imagescope_are_holes(
    tmp_path: Path, kind: int, corners: list[tuple[int, int]], removed: float
) -> None:
    regions = files.region(BOX) + files.region(corners, kind, 'Text="" NegativeROA="1"')
    (tmp_path / "s.xml").write_text(files.imagescope('Name="Tumor"', regions))
    found = read_annotation_file(tmp_path / "s.xml", "s", INFO)
    assert area(found) == pytest.approx(BOX_AREA - removed, rel=1e-3)
    assert (found.objects, found.used, found.excluded) == (2, 1, int(removed > 0))


def test_negative_regions_are_holes_of_their_own_layer_only(tmp_path: Path) -> None:
    other = files.imagescope('Name="Stroma"', files.region(BOX, 0, 'Text="" NegativeROA="1"'))
    tumour = files.imagescope('Name="Tumor"', files.region(BOX))
    both = other.removesuffix("</Annotations>") + tumour.partition(">")[2]
    (tmp_path / "s.xml").write_text(both)
    found = read_annotation_file(tmp_path / "s.xml", "s", INFO)
    assert (area(found), found.used, found.excluded) == (BOX_AREA, 1, 1)
