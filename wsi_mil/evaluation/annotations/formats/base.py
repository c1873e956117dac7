"""What a format declares: the names of its files, how it is recognised, and its parser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.contracts.qupath import BoundsMode
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.evaluation.annotations.drawn import Drawn


@dataclass(frozen=True)
class FileToRead:
    """One annotation file with what is known of its slide.

    info: None where the slide is not known. bounds: whether GeoJSON that does not name its frame is in
    coordinates that are cropped to the slide's bounds.
    """

    path: Path
    info: SlideInfo | None
    bounds: BoundsMode = "auto"


@dataclass(frozen=True)
class AnnotationFormat:
    """One format.

    name: as users know it. position: files of a smaller number are preferred where a slide has several.
    endings: what follows the slide id in the name of a file. root: the root element of an XML format, "" for
    other formats. read: returns every object of a file; raises DataError for a file that is damaged.
    """

    name: str
    position: int
    endings: tuple[str, ...]
    read: Callable[[FileToRead], Sequence[Drawn]]
    root: str = ""
