"""Tissue: a coarse look at the slide, a mask, its outline; an outline that a user edited wins."""

from wsi_mil.tissue.files import read_tissue, write_tissue
from wsi_mil.tissue.preview import draw_preview
from wsi_mil.tissue.segmentation import TissueSpec, find_tissue, mask_from_polygons

__all__ = ["TissueSpec", "draw_preview", "find_tissue", "mask_from_polygons", "read_tissue", "write_tissue"]
