"""Robustness: does a model recognise tumour, or another signal that happens to go with the label?"""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
