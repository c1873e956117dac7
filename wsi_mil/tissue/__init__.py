"""Tissue: found on a coarse image of the slide, stored as an outline that a user may edit in QuPath."""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
