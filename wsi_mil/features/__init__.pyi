from .engine import ExtractionReport as ExtractionReport
from .engine import encode_tiles as encode_tiles
from .engine import extract_features as extract_features
from .engine import extract_slides as extract_slides
from .mapped import MappedFeatures as MappedFeatures
from .store import SlideStore as SlideStore
