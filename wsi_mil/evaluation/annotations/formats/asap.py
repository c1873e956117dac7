"""ASAP XML, the format of the Camelyon challenges. Coordinates are level-0 pixels."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from wsi_mil.evaluation.annotations.drawn import Drawn
from wsi_mil.evaluation.annotations.formats.base import AnnotationFormat, FileToRead
from wsi_mil.evaluation.annotations.rings import Corner, coordinate, enclosed, rectangle
from wsi_mil.evaluation.annotations.xml import inside
from wsi_mil.io.xml import read_xml

WITHOUT_AREA = {"dot", "pointset", "measurement"}


def read(file: FileToRead) -> list[Drawn]:
    """Return every annotation. Its classes are its group, and the groups that this group is part of.

    A spline is taken as the polygon of its points, as ASAP's own conversion to masks takes it.
    """
    root = read_xml(file.path)
    parents = {group.get("Name", ""): group.get("PartOfGroup", "") for group in inside(root, "Group")}
    return [_drawn(node, number, parents) for number, node in enumerate(inside(root, "Annotation"), 1)]


def _drawn(node: Element, number: int, parents: dict[str, str]) -> Drawn:
    kind = node.get("Type", "Polygon")
    names = tuple(_groups(node.get("PartOfGroup", ""), parents))
    corners = _corners(node, f"annotation {number} ({node.get('Name', 'without name')!r})")
    if kind.lower() in WITHOUT_AREA:
        return Drawn(names, kind, None)
    return Drawn(names, kind, (rectangle if kind.lower() == "rectangle" else enclosed)(corners))


def _groups(group: str, parents: dict[str, str]) -> Iterator[str]:
    seen: set[str] = set()
    while group.strip().lower() not in ("", "none") and group not in seen:
        yield group
        seen.add(group)
        group = parents.get(group, "")


def _corners(node: Element, where: str) -> list[Corner]:
    ordered = sorted(
        (
            coordinate(point.get("Order", str(place)), f"{where}, Order of point {place + 1}"),
            coordinate(point.get("X"), f"{where}, X of point {place + 1}"),
            coordinate(point.get("Y"), f"{where}, Y of point {place + 1}"),
        )
        for place, point in enumerate(inside(node, "Coordinate"))
    )
    return [(x, y) for _, x, y in ordered]


FORMAT = AnnotationFormat("ASAP XML", 1, (".xml",), read, root="ASAP_Annotations")
