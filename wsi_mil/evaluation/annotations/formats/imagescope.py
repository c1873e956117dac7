"""Aperio ImageScope XML. Coordinates are level-0 pixels.

A layer (`Annotation`) holds regions. The class is the text of the region or the name of the layer; either may
also be written as an attribute.
"""

from xml.etree.ElementTree import Element

from wsi_mil.evaluation.annotations.drawn import Drawn
from wsi_mil.evaluation.annotations.formats.base import AnnotationFormat, FileToRead
from wsi_mil.evaluation.annotations.rings import coordinate, ellipse, enclosed, rectangle
from wsi_mil.evaluation.annotations.xml import inside, read_xml, tag

KINDS = {"0": "freehand", "1": "rectangle", "2": "ellipse", "3": "arrow", "4": "ruler", "5": "counter"}
SHAPES = {"freehand": enclosed, "rectangle": rectangle, "ellipse": ellipse}


def read(file: FileToRead) -> list[Drawn]:
    """Return every region of every layer. A region that analysis leaves out (`NegativeROA`) is cut out."""
    return [
        _drawn(region, layer, number)
        for layer in inside(read_xml(file.path), "Annotation")
        for number, region in enumerate(inside(layer, "Region"), 1)
    ]


def _drawn(region: Element, layer: Element, number: int) -> Drawn:
    names = (*_named(region, "Text"), *_named(layer, "Name"))
    kind = KINDS.get(code := region.get("Type", "0"), f"type {code}")
    where = f"region {number} of layer {layer.get('Id', '?')} ({', '.join(names) or 'without name'})"
    corners = [
        (
            coordinate(point.get("X"), f"{where}, X of vertex {place}"),
            coordinate(point.get("Y"), f"{where}, Y of vertex {place}"),
        )
        for place, point in enumerate(inside(region, "Vertex"), 1)
    ]
    excluded = region.get("NegativeROA", "0").strip() == "1"
    shape = SHAPES.get(kind)
    return Drawn(names, kind, shape(corners) if shape else None, excluded=excluded)


def _named(element: Element, own: str) -> list[str]:
    """Return the name that an element states itself, then those of its attributes.

    An attribute names a class by its value ("Description": "Tumor"), or, without a value, by its own name.
    """
    attributes = [
        attribute.get("Value", "") or attribute.get("Name", "")
        for child in element
        if tag(child) == "Attributes"
        for attribute in inside(child, "Attribute")
    ]
    return [name for name in (element.get(own, ""), *attributes) if name.strip() not in ("", "Description")]


FORMAT = AnnotationFormat("ImageScope XML", 2, (".xml",), read, root="Annotations")
