"""Aperio ImageScope XML. Coordinates are level-0 pixels.

A layer (`Annotation`) holds regions. The class is the text of the region or the name of the layer; either may
also be written as an attribute.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

import shapely

from wsi_mil.evaluation.annotations.drawn import Drawn
from wsi_mil.evaluation.annotations.formats.base import AnnotationFormat, FileToRead
from wsi_mil.evaluation.annotations.rings import coordinate, ellipse, enclosed, rectangle
from wsi_mil.evaluation.annotations.xml import inside
from wsi_mil.geojson import polygonal
from wsi_mil.io.xml import read_xml, tag

KINDS = {"0": "freehand", "1": "rectangle", "2": "ellipse", "3": "arrow", "4": "ruler", "5": "counter"}
SHAPES = {"freehand": enclosed, "rectangle": rectangle, "ellipse": ellipse}


def read(file: FileToRead) -> list[Drawn]:
    """Return every region of every layer. A region that analysis leaves out (`NegativeROA`) is cut out of
    the regions of its own layer, and of no others.
    """
    layers = (
        [_drawn(region, layer, number) for number, region in enumerate(inside(layer, "Region"), 1)]
        for layer in inside(read_xml(file.path), "Annotation")
    )
    return [item for drawn in layers for item in _cut(drawn)]


def _cut(drawn: Sequence[Drawn]) -> Iterator[Drawn]:
    """Yield the regions of one layer without what its negative regions cover."""
    holes = shapely.union_all([item.area for item in drawn if item.excluded and item.area is not None])
    for item in drawn:
        if item.excluded:
            yield replace(item, cut=True)
        elif item.area is not None:
            yield replace(item, area=polygonal(shapely.difference(item.area, holes)))
        else:
            yield item


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
