"""Mask images: the tumour pixels of a TIFF."""

from wsi_mil.errors import DataError
from wsi_mil.evaluation.annotations.drawn import Drawn
from wsi_mil.evaluation.annotations.formats.base import AnnotationFormat, FileToRead
from wsi_mil.evaluation.mask_files import read_mask


def read(file: FileToRead) -> list[Drawn]:
    """Return one object with all tumour pixels; none if there are none."""
    if file.info is None:
        raise DataError("a mask cannot be placed without its slide")
    area = read_mask(file.path, file.info)
    return [] if area.is_empty else [Drawn(("tumor",), "mask", area)]


FORMAT = AnnotationFormat("mask", 5, ("_mask.tif", "_Mask.tif", "_mask.tiff", ".tif", ".tiff"), read)
