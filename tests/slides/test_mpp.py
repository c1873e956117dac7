"""The scale of a slide from each property that may state it."""

import pytest

from wsi_mil.errors import ScaleError, SlideError
from wsi_mil.slides.mpp import find_scale

OME = (
    '<OME xmlns="x"><Image><Pixels DimensionOrder="XYZCT" PhysicalSizeX="{x}" PhysicalSizeXUnit="{unit}" '
    'PhysicalSizeY="{y}" PhysicalSizeYUnit="{unit}" SizeX="3"/></Image></OME>'
)


@pytest.mark.parametrize(
    ("properties", "mpp", "source"),
    [
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"}, (0.25, 0.26), "openslide.mpp"),
        ({"aperio.MPP": "0.499"}, (0.499, 0.499), "aperio.MPP"),
        (
            {"tiff.ResolutionUnit": "centimeter", "tiff.XResolution": "40000", "tiff.YResolution": "20000"},
            (0.25, 0.5),
            "tiff.XResolution",
        ),
        (
            {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "50800", "tiff.YResolution": "50800"},
            (0.5, 0.5),
            "tiff.XResolution",
        ),
        (
            {
                "tiff.ResolutionUnit": "RESUNIT.CENTIMETER",
                "tiff.XResolution": 20000,
                "tiff.YResolution": 20000,
            },
            (0.5, 0.5),
            "tiff.XResolution",
        ),
        (
            {"tiff.ImageDescription": OME.format(x="0.5", y="0.4", unit="µm")},
            (0.5, 0.4),
            "OME PhysicalSize in tiff.ImageDescription",
        ),
        (
            {"openslide.comment": OME.format(x="0.0005", y="0.0005", unit="mm")},
            (0.5, 0.5),
            "OME PhysicalSize in openslide.comment",
        ),
        (
            {"openslide.comment": "Aperio v1|AppMag = 20|MPP = 0.4990"},
            (0.499, 0.499),
            "MPP in openslide.comment",
        ),
    ],
)
def test_every_source(properties: dict[str, object], mpp: tuple[float, float], source: str) -> None:
    scale = find_scale(properties, "s")
    assert (scale.mpp_x, scale.mpp_y) == pytest.approx(mpp)
    assert scale.source == source


def test_override_wins_and_a_conflict_is_noted() -> None:
    scale = find_scale({"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5"}, "s", override=0.25)
    assert (scale.mpp_x, scale.source) == (0.25, "override")
    assert "openslide.mpp says 0.5" in scale.notes[0]


def test_a_photo_editors_resolution_is_no_scale() -> None:
    tags = {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "72", "tiff.YResolution": "72"}
    with pytest.raises(ScaleError, match=r"352\.8 µm/px: not plausible"):
        find_scale(tags, "s")
    assert find_scale({**tags, "aperio.MPP": "0.5"}, "s").source == "aperio.MPP"


def test_objective_power_is_never_a_scale() -> None:
    with pytest.raises(ScaleError, match="'case 7'"):
        find_scale({"openslide.objective-power": "40", "aperio.AppMag": "40"}, "case 7")


@pytest.mark.parametrize("text", ["", "nan", "inf", "-1", "0", "1_0", "1.234,5", "0x1", "1e999", "0/0"])
def test_texts_that_are_no_positive_number(text: str) -> None:
    with pytest.raises(ScaleError):
        find_scale({"openslide.mpp-x": text, "openslide.mpp-y": text}, "s")


def test_pixels_that_are_not_square_are_noted() -> None:
    assert "not square" in find_scale({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5"}, "s").notes[0]


def test_a_negative_override_is_refused() -> None:
    with pytest.raises(SlideError, match="positive"):
        find_scale({}, "s", override=-0.5)


@pytest.mark.parametrize(
    ("text", "mpp"), [("0,5", 0.5), ("5e-1", 0.5), (" 0.5 ", 0.5), ("+.5", 0.5), ("2,5E-1", 0.25)]
)
def test_forms_of_numbers(text: str, mpp: float) -> None:
    assert find_scale({"openslide.mpp-x": text}, "s").mpp_x == mpp
    assert find_scale({"tiff.ImageDescription": OME.format(x=text, y=text, unit="µm")}, "s").mpp_y == mpp


@pytest.mark.parametrize(
    ("text", "mpp"),
    [
        ("Scanner X|MPP = 1,25|", 1.25),
        ("MPP=0.25, Left = 2", 0.25),
        ("mpp: 250 nm", 0.25),
        ("MPP = 0.5 µm", 0.5),
        ("MPP = 0.25,0.25", None),
        ("MPP = 0.25.1", None),
        ("amppp = 3", None),
    ],
)
def test_a_plain_scale_in_a_description(text: str, mpp: float | None) -> None:
    if mpp is None:
        with pytest.raises(ScaleError):
            find_scale({"tiff.ImageDescription": text}, "s")
    else:
        assert find_scale({"tiff.ImageDescription": text}, "s").mpp_x == pytest.approx(mpp)


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [
        ("500", "nm", 0.5),
        ("0.5", "&#181;m", 0.5),
        ("0.5", "\u03bcm", 0.5),
        ("0.5", "um", 0.5),
        ("0.0005", "mm", 0.5),
        ("0.00005", "cm", 0.5),
        ("0.00001", "inch", 0.254),
        ("5000", "\u00c5", 0.5),
        ("5000", "\u212b", 0.5),
        ("0.5", "pixel", None),
        ("0.5", "reference frame", None),
    ],
)
def test_units_of_ome(size: str, unit: str, mpp: float | None) -> None:
    properties = {"tiff.ImageDescription": OME.format(x=size, y=size, unit=unit)}
    if mpp is None:
        with pytest.raises(ScaleError, match=f"{size}' '{unit}', no positive length"):
            find_scale(properties, "s")
    else:
        assert find_scale(properties, "s").mpp_x == pytest.approx(mpp)


def test_ome_is_read_as_xml_and_the_image_of_level_0_is_taken() -> None:
    """Single quotes, a prefix, a comment with another value, and a label before the slide."""
    xml = """<?xml version='1.0' encoding='UTF-8'?>
    <o:OME xmlns:o='http://www.openmicroscopy.org/Schemas/OME/2016-06'>
      <!-- <Pixels SizeX="700" SizeY="500" PhysicalSizeX="9" PhysicalSizeY="9"/> -->
      <o:Image Name='label'><o:Pixels SizeX='70' SizeY='50' PhysicalSizeX='8' PhysicalSizeY='8'/></o:Image>
      <o:Image Name='a &gt; b'><o:Pixels Name='>' SizeX='700' SizeY='500' PhysicalSizeX='0.4'
        PhysicalSizeY='0.5'/></o:Image>
    </o:OME>"""
    properties = {"tiff.ImageDescription": xml}
    scale = find_scale(properties, "s", size_px=(700, 500))
    assert (scale.mpp_x, scale.mpp_y) == (0.4, 0.5)
    with pytest.raises(ScaleError, match="no image of 999 x 500 px"):
        find_scale(properties, "s", size_px=(999, 500))


def test_xml_with_entities_of_its_own_or_without_end_is_no_scale() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "0.5">]>' + OME.format(x="&a;", y="0.5", unit="µm")
    for text in (bomb, OME.format(x="0.5", y="0.5", unit="µm")[:-8]):
        with pytest.raises(ScaleError, match=r"OME-XML in tiff.ImageDescription cannot be read"):
            find_scale({"tiff.ImageDescription": text}, "s")


@pytest.mark.parametrize(("mpp", "taken"), [("0.049", False), ("0.05", True), ("20", True), ("20.1", False)])
def test_scales_that_no_microscope_has_need_an_override(mpp: str, taken: bool) -> None:
    properties = {"openslide.mpp-x": mpp, "openslide.mpp-y": mpp}
    if taken:
        assert find_scale(properties, "s").mpp_x == float(mpp)
    else:
        with pytest.raises(ScaleError, match="not plausible"):
            find_scale(properties, "s")
    assert find_scale(properties, "s", override=25.0).mpp_x == 25
