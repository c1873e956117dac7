"""Safe reading of XML: document types, which define entities, are refused, and elements are counted."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from wsi_mil import limits
from wsi_mil.errors import DataError
from wsi_mil.io.bounded import check_size

PIECE_BYTES = 1 << 16
Start = Callable[[str, Mapping[str, str]], None]


class _Counted:
    """Counts elements and their nesting; raises DataError above the limits and for a document type."""

    def __init__(self, where: str) -> None:
        self.where, self.elements, self.depth = where, 0, 0

    def opened(self) -> None:
        """Count one element that begins."""
        self.elements += 1
        self.depth += 1
        if self.depth > limits.XML_DEPTH.most:
            limits.XML_DEPTH.check(self.depth, self.where)
        if self.elements > limits.XML_ELEMENTS.most:
            limits.XML_ELEMENTS.check(self.elements, self.where)

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse a document type: it may define entities, which expand without end or name other files."""
        raise DataError(f"{self.where}: it has a document type (<!DOCTYPE {name[:40]}>): remove that")


class _Tree(_Counted, TreeBuilder):
    """Builds the tree of all elements."""

    def __init__(self, where: str) -> None:
        _Counted.__init__(self, where)
        TreeBuilder.__init__(self)

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        """Add an element."""
        self.opened()
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        """Close an element."""
        self.depth -= 1
        return super().end(tag)


class _Stream(_Counted):
    """Calls a function for each element and keeps none: a tree takes most of the time and memory."""

    def __init__(self, where: str, found: Start) -> None:
        super().__init__(where)
        self.found = found

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        """Hand an element over."""
        self.opened()
        self.found(tag, attrs)

    def end(self, tag: str) -> None:
        """Leave an element."""
        self.depth -= 1

    def close(self) -> None:
        """End: nothing is returned."""


def read_xml(path: Path) -> Element:
    """Return the root element of a file.

    Raises DataError for text that is not XML, has a document type, or has more elements or deeper ones than
    the limits.
    """
    check_size(path, limits.XML_BYTES)
    parser = XMLParser(target=_Tree(str(path)))
    try:
        with path.open("rb") as file:
            _feed(parser, file)
        root: Element | None = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} is not readable XML ({type(error).__name__}: {error})") from error
    if root is None:
        raise DataError(f"{path} holds no XML element")
    return root


def _feed(parser: XMLParser, file: BinaryIO) -> None:
    while piece := file.read(PIECE_BYTES):
        parser.feed(piece)


def each_element(text: str, where: str, found: Start) -> None:
    """Call `found(name, attributes)` for each element of a text, without building a tree.

    Raises DataError as `read_xml`, and ParseError (a SyntaxError) or ValueError for text that is not XML.

    >>> each_element('<a><b x="1"/></a>', "text", print)
    a {}
    b {'x': '1'}
    """
    parser = XMLParser(target=_Stream(where, found))
    parser.feed(text)
    parser.close()


def tag(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return local_name(str(element.tag))


def local_name(name: str) -> str:
    """Return a name without its namespace.

    >>> local_name("{http://www.openmicroscopy.org/Schemas/OME/2016-06}Pixels")
    'Pixels'
    """
    return name.rpartition("}")[2]
