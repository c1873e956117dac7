"""Safe reading of XML: entities and document types are refused before they are expanded."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from wsi_mil import limits
from wsi_mil.errors import DataError
from wsi_mil.io.bounded import check_size


def read_xml(path: Path) -> Element:
    """Return the root element of a file. Raises DataError for text that is not XML or defines entities."""
    check_size(path, limits.XML_BYTES)
    try:
        root: Element | None = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise DataError(f"{path} is not readable XML ({type(error).__name__}: {error})") from error
    if root is None:
        raise DataError(f"{path} holds no XML element")
    return root


def tag(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def inside(element: Element, *names: str) -> Iterator[Element]:
    """Yield the descendants with one of the names, in the order of the file."""
    return (child for child in element.iter() if child is not element and tag(child) in names)


def text_of(element: Element, name: str) -> str | None:
    """Return the text of the first child of a name, None where there is none."""
    child = next((child for child in element if tag(child) == name), None)
    return None if child is None else (child.text or "").strip()
