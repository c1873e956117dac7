"""Features: the vectors of a slide's tiles, in one Zarr store per slide. A table is complete or absent."""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
