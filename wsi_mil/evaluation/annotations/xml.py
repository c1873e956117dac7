"""Elements of an XML annotation file by their names."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from wsi_mil.io.xml import tag


def inside(element: Element, *names: str) -> Iterator[Element]:
    """Yield the descendants with one of the names, in the order of the file."""
    return (child for child in element.iter() if child is not element and tag(child) in names)


def text_of(element: Element, name: str) -> str | None:
    """Return the text of the first child of a name, None where there is none."""
    child = next((child for child in element if tag(child) == name), None)
    return None if child is None else (child.text or "").strip()
