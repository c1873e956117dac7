"""Stages: each one reads and writes the run folder, and leaves alone what is up to date.

A stage is a module with `run(context) -> int`. Those that work slide by slide also have a picklable job and a
function `<stage>_one(job) -> Outcome`. `table.py` lists the stages.
"""

import lazy_loader

# The names, and the modules that hold them, are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
