"""wsi_mil: from a folder of whole-slide images and one label per slide to checked tumour heatmaps.

`import wsi_mil` is fast: each name is imported from its module when it is first used, so that neither torch
nor OpenSlide is loaded before it is needed. `__init__.pyi` lists the names.

>>> import wsi_mil
>>> wsi_mil.__version__
'0.1.0'
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
