"""Tissue: found on a coarse image of the slide, stored as an outline that a user may edit in QuPath."""

from wsi_mil.tissue.files import read_tissue, write_tissue
from wsi_mil.tissue.preview import draw_preview
from wsi_mil.tissue.segmentation import TissueSpec, find_tissue, mask_from_polygons

__all__ = ["TissueSpec", "draw_preview", "find_tissue", "mask_from_polygons", "read_tissue", "write_tissue"]
