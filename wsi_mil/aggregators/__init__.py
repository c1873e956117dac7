"""Aggregators turn the instances of a bag into its label. One file for each method, one interface for all."""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
