"""Robustness: does a model react to tumour, or to another signal that goes with the label?

`poison`: artificial signals painted on slides. `audit`: tests of an aggregator on generated bags, and changes
to the slides of a trained model. The runs that use them are in `wsi_mil.experiments`.
"""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
