"""Annotation files and an NDPI slide, written by hand as the tools write them."""

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from wsi_mil.contracts.slide import SlideInfo

INFO = SlideInfo("s", "", ((4096, 2048),), (1.0,), 0.25, 0.25, "test", None, "v", "r", "1")
BOX = [(100, 100), (400, 100), (400, 300), (100, 300)]
BOX_AREA = 300 * 200
Corners = Sequence[tuple[object, object]]


def asap(*annotations: tuple[str, str | None, Corners], groups: dict[str, str] | None = None) -> str:
    """ASAP XML of annotations (type, group, corners) and groups (name: the group it is part of)."""
    body = ""
    for number, (kind, group, corners) in enumerate(annotations):
        of = "" if group is None else f' PartOfGroup="{group}"'
        points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(corners))
        body += f'<Annotation Name="A{number}" Type="{kind}"{of} Color="#F4FA58">'
        body += f"<Coordinates>{points}</Coordinates></Annotation>"
    named = "".join(f'<Group Name="{name}" PartOfGroup="{of}"/>' for name, of in (groups or {}).items())
    return (
        f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{body}</Annotations>'
        f"<AnnotationGroups>{named}</AnnotationGroups></ASAP_Annotations>"
    )


def imagescope(layer: str, regions: str) -> str:
    return (
        f'<Annotations MicronsPerPixel="0.25"><Annotation Id="1" {layer} Type="4"><Attributes/>'
        f"<Regions><RegionAttributeHeaders/>{regions}</Regions></Annotation></Annotations>"
    )


def region(corners: Corners, kind: int = 0, more: str = 'Text=""', attributes: str = "") -> str:
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
    return (
        f'<Region Id="1" Type="{kind}" Zoom="1" {more}><Attributes>{attributes}</Attributes>'
        f"<Vertices>{vertices}</Vertices></Region>"
    )


def ndpa(*states: tuple[str, str, str], unit: str = "nanometers") -> str:
    """NDPA of view states (title, type of annotation, what the annotation holds)."""
    body = "".join(
        f'<ndpviewstate id="{number}"><title>{title}</title><details/><coordformat>{unit}</coordformat>'
        f'<lens>20</lens><x>0</x><y>0</y><annotation type="{kind}" displayname="A" color="#ff0000">{inner}'
        "</annotation></ndpviewstate>"
        for number, (title, kind, inner) in enumerate(states)
    )
    return f'<?xml version="1.0" encoding="utf-8"?><annotations>{body}</annotations>'


def pointlist(corners_nm: Corners, closed: int = 1) -> str:
    points = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in corners_nm)
    return f"<closed>{closed}</closed><pointlist>{points}</pointlist>"


def feature(
    coordinates: object = None, classification: object = None, kind: str = "Polygon", **properties: object
) -> dict[str, object]:
    ring = [[x, y] for x, y in [*BOX, BOX[0]]]
    geometry = {"type": kind, "coordinates": [ring] if coordinates is None else coordinates}
    known = {} if classification is None else {"classification": classification}
    return {"type": "Feature", "geometry": geometry, "properties": {**known, **properties}}


def write_geojson(path: Path, *features: object, **members: object) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}))
    return path


def write_ndpi(path: Path, size: tuple[int, int], offset_nm: tuple[int, int], mpp: float) -> Path:
    """Write the smallest NDPI file that OpenSlide opens: one JPEG, and Hamamatsu's own tags.

    NDPI is classic TIFF whose offsets to directories have 8 bytes.
    """
    packed = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), 200, np.uint8)).save(packed, "JPEG")
    jpeg, make = packed.getvalue(), b"Hamamatsu\0"
    scale = struct.pack("<II", round(10_000 / mpp), 1)
    make_at = 12 + len(jpeg)
    scale_at = make_at + len(make)
    whole, short, text, rational, signed, real = 4, 3, 2, 5, 9, 11
    tags: list[tuple[int, int, int, int | float]] = [
        (256, whole, 1, size[0]),
        (257, whole, 1, size[1]),
        (258, short, 1, 8),
        (259, short, 1, 7),
        (262, short, 1, 6),
        (271, text, len(make), make_at),
        (273, whole, 1, 12),
        (277, short, 1, 3),
        (278, whole, 1, size[1]),
        (279, whole, 1, len(jpeg)),
        (282, rational, 1, scale_at),
        (283, rational, 1, scale_at),
        (296, short, 1, 3),
        (65420, whole, 1, 1),
        (65421, real, 1, 20.0),
        (65422, signed, 1, offset_nm[0]),
        (65423, signed, 1, offset_nm[1]),
        (65424, signed, 1, 0),
    ]
    forms = {signed: "<i", real: "<f"}
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHI", number, kind, count) + struct.pack(forms.get(kind, "<I"), value)
        for number, kind, count, value in tags
    )
    at = scale_at + len(scale)
    after = struct.pack("<Q", 0) + bytes(4 * len(tags))  # no further directory; high halves of the values
    path.write_bytes(b"II*\0" + struct.pack("<Q", at) + jpeg + make + scale + directory + after)
    return path
