"""Training: one loop over any aggregator. The epoch is chosen on validation bags; a stopped training
resumes exactly."""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
