"""ImageScope XML and NDPA of any content: read right, or refused by name."""

import math
from pathlib import Path
from unittest import mock
from xml.etree.ElementTree import Element, SubElement, tostring

import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.evaluation.annotations import files
from tests.evaluation.annotations.files import INFO
from tests.evaluation.annotations.test_damage import TO_PX, ours_or_fine
from wsi_mil.evaluation.annotations import read_annotation_file
from wsi_mil.evaluation.annotations.formats import ndpa

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn"]), max_size=6)
classes = st.sampled_from(["Tumor", "Stroma", "normal", "", "exclusion", "_2"])
numbers = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats().map(str),
    st.sampled_from(["1,5", "1,234", "1,234,5", " 7 ", "+3", "0x10", "1e999", "", "1_0", "−5"]),
    words,
)


def optional(**values: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional=values)


def saved(root: Element, encoding: str, cut: int) -> bytes:
    whole = tostring(root, encoding=encoding, xml_declaration=True)
    return whole[: len(whole) - cut] if cut > 30 else whole


encodings = st.sampled_from(["utf-8", "utf-16", "latin-1"])
vertices = st.lists(optional(X=numbers, Y=numbers, Z=numbers), max_size=6)
kinds = st.one_of(st.integers(-1, 7).map(str), words)
regions = st.lists(
    st.tuples(
        optional(Type=kinds, NegativeROA=kinds, Text=st.one_of(classes, words), Id=words),
        vertices,
        st.lists(optional(Name=words, Value=st.one_of(classes, words)), max_size=2),
    ),
    max_size=3,
)


@FUZZ
@given(
    layers=st.lists(st.tuples(optional(Name=classes, Id=words), regions), max_size=3),
    encoding=encodings,
    cut=st.integers(0, 40),
)
def test_any_imagescope_xml(
    layers: list[
        tuple[dict[str, str], list[tuple[dict[str, str], list[dict[str, str]], list[dict[str, str]]]]]
    ],
    encoding: str,
    cut: int,
    tmp_path: Path,
) -> None:
    root = Element("Annotations")
    for known, drawn in layers:
        layer = SubElement(SubElement(root, "Annotation", known), "Regions")
        for attributes, corners, named in drawn:
            region = SubElement(layer, "Region", attributes)
            for attribute in named:
                SubElement(SubElement(region, "Attributes"), "Attribute", attribute)
            points = SubElement(region, "Vertices")
            for corner in corners:
                SubElement(points, "Vertex", corner)
    (tmp_path / "fuzz.xml").write_bytes(saved(root, encoding, cut))
    ours_or_fine(tmp_path / "fuzz.xml")


shapes = st.one_of(st.sampled_from(["freehand", "circle", "pin", "linearmeasure", "pointer"]), words)
states = st.lists(
    st.tuples(
        optional(title=st.one_of(classes, words), coordformat=st.sampled_from(["nanometers", "pixels", ""])),
        optional(type=shapes, specialtype=st.sampled_from(["rectangle", "point", ""])),
        optional(closed=st.sampled_from(["0", "1", "", "x"]), x=numbers, y=numbers, radius=numbers),
        st.lists(optional(x=numbers, y=numbers), max_size=6),
    ),
    max_size=3,
)


@FUZZ
@given(drawn=states, encoding=encodings, cut=st.integers(0, 40))
def test_any_ndpa(
    drawn: list[tuple[dict[str, str], dict[str, str], dict[str, str], list[dict[str, str]]]],
    encoding: str,
    cut: int,
    tmp_path: Path,
) -> None:
    root = Element("annotations")
    for texts, attributes, inner, corners in drawn:
        state = SubElement(root, "ndpviewstate")
        annotation = Element("annotation", attributes)
        points = Element("pointlist")
        for parent, values in ((state, texts), (annotation, inner)):
            for name, value in values.items():
                SubElement(parent, name).text = value
        for corner in corners:
            point = SubElement(points, "point")
            for name, value in corner.items():
                SubElement(point, name).text = value
        annotation.append(points)
        state.append(annotation)
    (tmp_path / "fuzz.ndpa").write_bytes(saved(root, encoding, cut))
    with mock.patch.object(ndpa, "nanometres_to_pixels", return_value=TO_PX):
        ours_or_fine(tmp_path / "fuzz.ndpa")


@FUZZ
@given(
    corners=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2000)), min_size=3, max_size=7),
    form=st.sampled_from(["imagescope", "ndpa", "ellipse"]),
)
def test_areas_of_any_outline(corners: list[tuple[int, int]], form: str, tmp_path: Path) -> None:
    """Of a ring that does not cross itself, the shoelace formula; of an ellipse, pi times its half axes."""
    xs, ys = zip(*corners, strict=True)
    pairs = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    expected = abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2
    path = tmp_path / ("s.ndpa" if form == "ndpa" else "s.xml")
    if form == "ndpa":
        (x_nm, y_nm), half = TO_PX.nm_per_px, (INFO.width_px / 2, INFO.height_px / 2)
        corners_nm = [((x - half[0]) * x_nm, (y - half[1]) * y_nm) for x, y in corners]
        path.write_text(files.ndpa(("Tumor", "freehand", files.pointlist(corners_nm))))
    else:
        path.write_text(files.imagescope('Name="Tumor"', files.region(corners, 2 * (form == "ellipse"))))
    with mock.patch.object(ndpa, "nanometres_to_pixels", return_value=TO_PX):
        found = sum(lesion.geometry.area for lesion in read_annotation_file(path, "s", INFO).lesions)
    if form == "ellipse":
        assert found == pytest.approx(math.pi * (max(xs) - min(xs)) * (max(ys) - min(ys)) / 4, rel=1e-3)
    elif shapely.Polygon(corners).is_valid:
        assert found == pytest.approx(expected)
