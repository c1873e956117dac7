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


@pytest.mark.parametrize("text", ["", "nan?", "-1", "0", "0,5"])
def test_texts_that_are_no_positive_number(text: str) -> None:
    with pytest.raises(ScaleError):
        find_scale({"openslide.mpp-x": text, "openslide.mpp-y": text}, "s")


def test_pixels_that_are_not_square_are_noted() -> None:
    assert "not square" in find_scale({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5"}, "s").notes[0]


def test_a_negative_override_is_refused() -> None:
    with pytest.raises(SlideError, match="positive"):
        find_scale({}, "s", override=-0.5)
