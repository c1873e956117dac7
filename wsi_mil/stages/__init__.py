"""Stages: each reads and writes files of the run folder, and does again only what is not up to date.

A stage is a module with `run(context) -> int`, which returns how many slides (models, pages) needed work. A
stage that works slide by slide also has a frozen, picklable job and a function `<stage>_one(job) -> Outcome`,
which `wsi_mil.execution` calls for every slide. `table.py` lists the stages in their order.
"""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
