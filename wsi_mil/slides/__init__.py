"""Slides: one interface to slide files and to arrays in memory, with the scale in µm per pixel."""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
