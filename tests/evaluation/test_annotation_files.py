"""Masks, and whatever else people put beside their slides: read right, or refused by name."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.evaluation import AnnotationFolder, read_annotations
from wsi_mil.synthetic.writing import write_asap

INFO = SlideInfo("s", "", ((4096, 2048),), (1.0,), 0.25, 0.25, "test", None, "v", "r", "1")


def write_mask(path: Path, mask: np.ndarray, levels: int = 1) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(mask, subifds=levels - 1, tile=(64, 64), compression="zlib", photometric="minisblack")
        for k in range(1, levels):
            writer.write(mask[:: 2**k, :: 2**k], subfiletype=1, tile=(64, 64), compression="zlib")


@pytest.mark.parametrize(("value", "other"), [(1, 0), (255, 0), (2, 1)])
def test_masks_become_outlines_whatever_their_values(tmp_path: Path, value: int, other: int) -> None:
    """At a quarter of the slide, and as a pyramid whose coarse level is read: 32 level-0 px a pixel."""
    mask = np.full((512, 1024), other, np.uint8)
    mask[:8] = 0
    mask[64:128, 256:512] = value
    write_mask(tmp_path / "s_mask.tif", mask)
    write_mask(tmp_path / "pyramid.tif", np.repeat(np.repeat(mask, 4, 0), 4, 1), levels=6)
    assert AnnotationFolder(tmp_path).find("s") == tmp_path / "s_mask.tif"
    for name in ("s_mask.tif", "pyramid.tif"):
        (lesion,) = read_annotations(tmp_path / name, "s", INFO)
        assert lesion.geometry.bounds == (1024, 256, 2048, 512)
        assert lesion.geometry.area == 1024 * 256


def test_a_mask_without_tumour_has_no_lesion(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.tif", np.zeros((512, 1024), np.uint8))
    assert read_annotations(tmp_path / "m.tif", "s", INFO) == []


def test_masks_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    write_mask(path, np.full((512, 512), 1, np.uint8))
    with pytest.raises(DataError, match=r"512 x 512 px does not have the shape of slide 's', 4096 x 2048"):
        read_annotations(path, "s", INFO)
    write_mask(path, np.arange(512 * 1024, dtype=np.uint8).reshape(512, 1024))
    with pytest.raises(DataError, match="this one holds"):
        read_annotations(path, "s", INFO)
    with pytest.raises(DataError, match="cannot be placed without its slide"):
        read_annotations(path, "s")
    path.write_bytes(b"II*\0 no mask")
    with pytest.raises(DataError, match=r"m\.tif is not a readable mask"):
        read_annotations(path, "s", INFO)


def ours_or_fine(path: Path) -> None:
    """Read a file: lesions, or our error in one line with the file's name; anything else fails the test."""
    said, lesions = path.name, []
    try:
        lesions = read_annotations(path, "s", INFO)
    except WsiMilError as error:
        said = str(error)
    assert path.name in said
    assert "\n" not in said
    assert all(lesion.geometry.is_valid and not lesion.geometry.is_empty for lesion in lesions)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
number = st.one_of(st.integers(-(10**6), 10**6), st.floats(), st.text(max_size=4), st.none())
json_value = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=8), st.integers()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
names = st.sampled_from(
    ["Tumor", "tumor", "Exclusion", "", "Other", None, {"name": "Tumor"}, {"names": [1]}, 7, []]
)
position = st.lists(number, max_size=3)
geometry = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Polygon", "MultiPolygon", "Point", "GeometryCollection", 3, None]),
        "coordinates": st.one_of(
            json_value,
            st.lists(st.lists(position, max_size=6), max_size=3),
            st.lists(st.lists(st.lists(position, max_size=6), max_size=2), max_size=2),
        ),
    }
)
feature = st.fixed_dictionaries(
    {"type": st.just("Feature"), "geometry": st.one_of(geometry, json_value)},
    optional={
        "properties": st.one_of(
            json_value, st.fixed_dictionaries({"classification": names, "childObjects": json_value})
        ),
        "id": json_value,
    },
)


@FUZZ
@given(
    value=st.one_of(
        json_value,
        st.lists(feature, max_size=3),
        feature,
        st.fixed_dictionaries(
            {
                "type": st.just("FeatureCollection"),
                "features": st.lists(feature, max_size=3),
                "wsi_mil": json_value,
            }
        ),
    )
)
def test_any_json_is_read_or_refused_by_name(value: object, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.geojson"
    path.write_text(json.dumps(value))
    ours_or_fine(path)


@FUZZ
@given(raw=st.binary(max_size=200), packed=st.booleans())
def test_any_bytes_are_read_or_refused_by_name(raw: bytes, packed: bool, tmp_path: Path) -> None:
    for name in ("fuzz.geojson", "fuzz.xml", "fuzz.tif"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw)[: 8 + len(raw)] if packed else raw)
        ours_or_fine(path)


text = st.text(
    st.characters(codec="utf-8", exclude_characters='<&"\x00', exclude_categories=["Cs", "Cc"]), max_size=8
)
coordinate = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.integers(-(10**7), 10**7).map(str), st.floats().map(str), text)
        for name in ("Order", "X", "Y")
    },
)
groups = st.sampled_from(["Tumor", "_0", "_2", "Exclusion", "metastases", "normal", "None"])


@FUZZ
@given(
    annotations=st.lists(st.tuples(groups, st.lists(coordinate, max_size=8)), max_size=3),
    cut=st.integers(0, 40),
)
def test_any_xml_is_read_or_refused_by_name(
    annotations: list[tuple[str, list[dict[str, str]]]], cut: int, tmp_path: Path
) -> None:
    body = "".join(
        f'<Annotation PartOfGroup="{group}">'
        + "".join("<Coordinate " + " ".join(f'{k}="{v}"' for k, v in c.items()) + "/>" for c in points)
        + "</Annotation>"
        for group, points in annotations
    )
    whole = f"<ASAP_Annotations>{body}</ASAP_Annotations>"
    path = tmp_path / "fuzz.xml"
    path.write_text(whole[: len(whole) - cut] if cut > 30 else whole, encoding="utf-8")
    ours_or_fine(path)


@FUZZ
@given(points=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=3, max_size=9))
def test_self_crossing_rings_are_repaired_to_their_non_zero_area(
    points: list[tuple[int, int]], tmp_path: Path
) -> None:
    """The area never exceeds the hull's, and a simple ring keeps its own."""
    ring = shapely.Polygon([(100 * x, 100 * y) for x, y in points])
    path = tmp_path / "ring.xml"
    write_asap(path, [("a", ring)])
    area = sum(lesion.geometry.area for lesion in read_annotations(path, "s", INFO))
    assert area <= ring.convex_hull.area + 1e-6
    if ring.is_valid:
        assert area == pytest.approx(ring.area)
