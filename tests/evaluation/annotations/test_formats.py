"""Every format: what counts, where it lies, and what is skipped, with areas by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import shapely

from tests.evaluation.annotations import files
from tests.evaluation.annotations.files import BOX, BOX_AREA, INFO
from wsi_mil.errors import DataError
from wsi_mil.evaluation.annotations import AnnotationRules, SlideAnnotation, read_annotation_file
from wsi_mil.slides import open_slide
from wsi_mil.synthetic.writing import write_pyramid

OTHER = [(1000, 1000), (1100, 1000), (1100, 1050), (1000, 1050)]


def read(path: Path, text: str | None = None, *classes: str) -> SlideAnnotation:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    return read_annotation_file(path, "s", INFO, AnnotationRules("auto", classes))


def area(found: SlideAnnotation) -> float:
    return float(sum(lesion.geometry.area for lesion in found.lesions))


@pytest.mark.parametrize(
    "group", ["Tumor", "Tumour", "tumor ", "Metastasis", "lesion", "_0", "invasive carcinoma"]
)
def test_asap_groups_that_are_lesions(tmp_path: Path, group: str) -> None:
    found = read(tmp_path / "s.xml", files.asap(("Polygon", group, BOX)))
    assert (found.format_name, found.objects, found.used, found.skipped) == ("ASAP XML", 1, 1, ())
    assert area(found) == BOX_AREA
    assert found.lesions[0].geometry.bounds == (100, 100, 400, 300)


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (None, "1 Polygon: it has no class"),
        ("None", "1 Polygon: it has no class"),
        ("my group", "1 Polygon of class 'my group': its class is not known to be a lesion"),
        ("Stroma", "1 Polygon of class 'Stroma': its class is no lesion"),
    ],
)
def test_asap_groups_that_are_not(tmp_path: Path, group: str | None, said: str) -> None:
    text = files.asap(("Polygon", group, BOX))
    found = read(tmp_path / "s.xml", text)
    assert (found.lesions, found.reasons, found.used) == ((), said, 0)
    named = "none" if group in (None, "None") else str(group)
    assert area(read(tmp_path / "s.xml", text, named)) == BOX_AREA


def test_asap_subgroups_belong_to_the_group_that_is_understood(tmp_path: Path) -> None:
    groups = {"Tumor": "None", "area 1": "Tumor", "deep": "area 1", "a": "b", "b": "a"}
    text = files.asap(("Polygon", "deep", BOX), ("Polygon", "a", OTHER), groups=groups)
    found = read(tmp_path / "s.xml", text)
    assert area(found) == BOX_AREA
    assert found.reasons == "1 Polygon of class 'a' < 'b': its class is not known to be a lesion"


def test_asap_shapes(tmp_path: Path) -> None:
    text = files.asap(
        ("Rectangle", "Tumor", [(100, 100), (400, 300)]),
        ("Spline", "Tumor", OTHER),
        ("Dot", "Tumor", [(5, 5)]),
        ("PointSet", "Tumor", BOX),
        ("Polygon", "Tumor", BOX[:2]),
        ("Polygon", "Exclusion", [(100, 100), (200, 100), (200, 300), (100, 300)]),
    )
    found = read(tmp_path / "s.xml", text)
    assert area(found) == BOX_AREA - 100 * 200 + 100 * 50
    assert (found.objects, found.used, found.excluded) == (6, 2, 1)
    assert {part.kind: (part.count, part.reason) for part in found.skipped} == dict.fromkeys(
        ("Dot", "PointSet", "Polygon"), (1, "it encloses no area")
    )


@pytest.mark.parametrize(
    ("layer", "more", "attributes"),
    [
        ('Name="Tumor"', 'Text=""', ""),
        ('Name=""', 'Text="carcinoma"', ""),
        ('Name="Layer 1"', 'Text="Metastasis"', ""),
        ('Name=""', 'Text=""', '<Attribute Id="1" Name="Description" Value="tumour"/>'),
        ('Name=""', 'Text=""', '<Attribute Id="1" Name="tumour" Value=""/>'),
    ],
)
def test_imagescope_takes_the_class_from_region_or_layer(
    tmp_path: Path, layer: str, more: str, attributes: str
) -> None:
    text = files.imagescope(layer, files.region(BOX, 0, more, attributes))
    found = read(tmp_path / "s.xml", text)
    assert (found.format_name, area(found)) == ("ImageScope XML", BOX_AREA)


def test_imagescope_shapes(tmp_path: Path) -> None:
    regions = [
        files.region([(100, 100), (400, 300)], 1),
        files.region([(1000, 1000), (1200, 1100)], 2),
        files.region([(0, 0), (9, 9)], 3),
        files.region([(0, 0), (9, 9)], 4),
        files.region([(100, 100), (200, 100), (200, 200), (100, 200)], 0, 'Text="" NegativeROA="1"'),
        files.region(OTHER, 0, 'Text="stroma"'),
    ]
    found = read(tmp_path / "s.xml", files.imagescope('Name="Tumor"', "".join(regions)))
    expected = BOX_AREA - 100 * 100 + math.pi * 100 * 50
    assert area(found) == pytest.approx(expected, rel=1e-3)  # an ellipse of 128 corners is 0.04 % smaller
    assert (found.objects, found.used, found.excluded) == (6, 2, 1)
    assert [part.kind for part in found.skipped] == ["arrow", "freehand", "ruler"]


def test_ndpa_is_placed_from_the_centre_of_the_glass_slide(tmp_path: Path) -> None:
    """An image of 800 x 600 px whose centre lies 1 mm right of and 0.5 mm above that of the glass."""
    slide = files.write_ndpi(tmp_path / "s.ndpi", (800, 600), (1_000_000, -500_000), 0.5)
    with open_slide(slide, slide_id="s") as opened:
        info = opened.info
    corners = [(1_000_000 + 500 * (x - 400), -500_000 + 500 * (y - 300)) for x, y in BOX]
    circle = f"<x>{1_000_000 + 500 * 200}</x><y>{-500_000 + 500 * 200}</y><radius>{500 * 50}</radius>"
    path = tmp_path / "s.ndpi.ndpa"
    path.write_text(
        files.ndpa(
            ("Tumor", "freehand", files.pointlist(corners)),
            ("Tumor", "circle", circle),
            ("Tumor", "freehand", files.pointlist(corners, closed=0)),
            ("", "freehand", files.pointlist(corners)),
            ("Tumor", "pin", "<x>1</x><y>2</y>"),
        )
    )
    found = read_annotation_file(path, "s", info)
    assert found.format_name == "NDPA"
    assert found.lesions[0].geometry.bounds[:2] == pytest.approx((100, 100))
    expected = shapely.union(shapely.Polygon(BOX), shapely.Point(600, 500).buffer(50, quad_segs=64)).area
    assert area(found) == pytest.approx(expected, rel=1e-3)
    assert [(part.kind, part.reason) for part in found.skipped] == [
        ("freehand", "it has no class"),
        ("open freehand", "it encloses no area"),
        ("pin", "it encloses no area"),
    ]
    path.write_text(files.ndpa(("Tumor", "freehand", files.pointlist(BOX)), unit="pixels"))
    with pytest.raises(DataError, match=r"s\.ndpi\.ndpa.*coordformat is 'pixels'"):
        read_annotation_file(path, "s", info)


def test_ndpa_without_the_properties_of_its_slide_is_refused(tmp_path: Path) -> None:
    text = files.ndpa(("Tumor", "freehand", files.pointlist(BOX)))
    with pytest.raises(DataError, match=r"s\.ndpa.*cannot be placed without the slide"):
        read(tmp_path / "s.ndpa", text)
    write_pyramid(tmp_path / "s.tif", np.full((300, 400, 3), 255, np.uint8), (0.5, 0.5))
    with open_slide(tmp_path / "s.tif", slide_id="s") as opened:
        info = opened.info
    with pytest.raises(DataError, match=r"s\.ndpa.*does not say hamamatsu\.XOffsetFromSlideCentre"):
        read_annotation_file(tmp_path / "s.ndpa", "s", info)


RING = [[x, y] for x, y in [*BOX, BOX[0]]]


@pytest.mark.parametrize(
    "item",
    [
        files.feature(classification={"name": "Tumor"}, objectType="annotation"),
        files.feature(classification={"name": "Tumor: Positive"}),
        files.feature(classification={"names": ["Tumor", "Negative"]}),
        files.feature(classification="Tumor*"),
        files.feature(classification={"name": "Carcinoma"}),
        files.feature(classifications=[{"name": "Grade 3"}, "Tumour"]),
        files.feature(classification='{"name": "Tumor", "color": [200, 0, 0]}'),
        files.feature(RING, "Tumor", "LineString"),
        files.feature([RING, [[0, 0], [5, 5]]], "Tumor", "MultiLineString"),
        files.feature([[RING]], "Tumor", "MultiPolygon"),
        {
            "type": "Feature",
            "properties": {"classification": "Tumor"},
            "geometry": {
                "type": "GeometryCollection",
                "geometries": [
                    {"type": "Polygon", "coordinates": [RING]},
                    {"type": "LineString", "coordinates": [[0, 0], [5, 5]]},
                    {"type": "Point", "coordinates": [1, 1]},
                ],
            },
        },
    ],
    ids=lambda item: f"{json.dumps(item['properties'])[:9]}{item['geometry']['type']}",  # type: ignore[index]
)
def test_qupath_objects_that_are_lesions(tmp_path: Path, item: object) -> None:
    found = read(files.write_geojson(tmp_path / "s.geojson", item))
    assert (found.format_name, area(found), found.used) == ("QuPath GeoJSON", BOX_AREA, 1)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (files.feature(objectType="annotation"), "1 Polygon: it has no class"),
        (files.feature(classification="Tumor", objectType="cell"), "1 cell of class 'Tumor': a QuPath cell"),
        (files.feature(classification="Tumor", objectType="detection"), "a QuPath detection, no annotation"),
        (files.feature(classification="Tumor", object_type="tile"), "a QuPath tile, no annotation"),
        ({**files.feature(classification="Tumor"), "id": "PathCellObject"}, "a QuPath cell, no annotation"),
        (files.feature([1, 1], "Tumor", "Point"), "1 Point of class 'Tumor': it encloses no area"),
        (files.feature([[1, 1], [2, 2]], "Tumor", "LineString"), "it encloses no area"),
        (files.feature(classification={"name": "Invborder"}), "its class is not known to be a lesion"),
        ({"type": "Polygon", "coordinates": [RING]}, "1 Polygon: it has no class"),
    ],
)
def test_qupath_objects_that_are_not(tmp_path: Path, item: object, said: str) -> None:
    found = read(files.write_geojson(tmp_path / "s.geojson", item))
    assert (found.lesions, found.objects) == ((), 1)
    assert said in found.reasons


def test_cells_below_an_annotation_are_counted_and_skipped(tmp_path: Path) -> None:
    cells = [files.feature(classification="Tumor", objectType="cell") for _ in range(7)]
    item = files.feature(classification="Tumor", childObjects=cells)
    found = read(files.write_geojson(tmp_path / "s.geojson", item))
    assert (found.objects, found.used, area(found)) == (8, 1, BOX_AREA)
    assert found.skipped[0].count == 7


@pytest.mark.parametrize("kind", ["heatmap", "tissue", "poison"])
def test_files_that_wsi_mil_wrote_for_another_purpose_are_refused(tmp_path: Path, kind: str) -> None:
    header = {"kind": kind, "format": 1, "model": "focus_mil"}
    path = files.write_geojson(tmp_path / "s.geojson", files.feature(classification="Tumor"), wsi_mil=header)
    with pytest.raises(DataError, match=rf"s\.geojson: this file is a {kind} of model 'focus_mil'"):
        read(path)


def test_xml_of_another_tool_is_refused_with_its_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s\.xml: the root element is <annotation>, expected .*ASAP"):
        read(tmp_path / "s.xml", "<annotation><object/></annotation>")
    with pytest.raises(DataError, match=r"s\.csv: no annotation file by its ending, expected one of \.xml"):
        read(tmp_path / "s.csv", "x,y")


BAD = ["nan", "NaN", "inf", "-inf", "1e999", "1e300", "", "1,234", "1,2,3", "abc", "0x10", "١٢x"]


@pytest.mark.parametrize("bad", BAD)
def test_broken_numbers_are_refused_by_name(tmp_path: Path, bad: str) -> None:
    corners = [*BOX[:2], (400, bad), BOX[3]]
    texts = {
        "a.xml": (files.asap(("Polygon", "Tumor", corners)), "annotation 1 .*Y of point 3"),
        "b.xml": (files.imagescope('Name="Tumor"', files.region(corners)), "region 1 .*Y of vertex 3"),
    }
    for name, (text, where) in texts.items():
        with pytest.raises(DataError, match=rf"{name}: {where}: .* is no finite number"):
            read(tmp_path / name, text)


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1e999", "1e300", '"12"', "null"])
def test_broken_numbers_of_geojson_are_refused_by_name(tmp_path: Path, bad: str) -> None:
    text = json.dumps({"type": "FeatureCollection", "features": [files.feature(classification="Tumor")]})
    with pytest.raises(DataError, match=r"s\.geojson: .*Polygon"):
        read(tmp_path / "s.geojson", text.replace("400, 300", f"400, {bad}"))


def test_a_hidden_entity_is_never_expanded(tmp_path: Path) -> None:
    head = '<!DOCTYPE a [<!ENTITY t "Tumor">]>'
    for name, text in (
        ("a.xml", files.asap(("Polygon", "&t;", BOX))),
        ("b.xml", files.imagescope('Name="&t;"', files.region(BOX))),
        ("c.ndpa", files.ndpa(("&t;", "freehand", files.pointlist(BOX)))),
    ):
        body = text.partition("?>")[2] if text.startswith("<?xml") else text
        with pytest.raises(DataError, match=rf"{name}: it has a document type"):
            read(tmp_path / name, head + body)
