from .files import read_tissue as read_tissue
from .files import write_tissue as write_tissue
from .preview import draw_preview as draw_preview
from .segmentation import TissueSpec as TissueSpec
from .segmentation import find_tissue as find_tissue
from .segmentation import mask_from_polygons as mask_from_polygons
