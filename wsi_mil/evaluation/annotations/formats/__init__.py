"""The annotation formats that are read: one module each, found by being in this folder."""

from functools import cache

from wsi_mil.evaluation.annotations.formats.base import AnnotationFormat
from wsi_mil.registry import FolderRegistry

FORMATS = FolderRegistry(
    "annotation format", "wsi_mil.evaluation.annotations.formats", "FORMAT", "wsi_mil.annotation_formats"
)


@cache
def formats() -> tuple[AnnotationFormat, ...]:
    """Return every format, in the order in which `AnnotationFolder.find` looks for its files."""
    found = [FORMATS.load(name) for name in FORMATS]
    return tuple(sorted(found, key=lambda known: (known.position, known.name)))
