"""Evaluation: scores against truth, on arrays and records. Nothing here reads a model or a run folder.

`table` lists the metrics, `measure` computes them, `results` holds the results and `metrics_file` writes
them. An undefined metric is NaN with a reason.
"""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
