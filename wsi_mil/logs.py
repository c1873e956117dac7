"""Console output: one logger for messages, one kind of progress bar; both on stderr."""

import logging
import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def logger(name: str = "wsi_mil") -> logging.Logger:
    """Return the package's logger, whose messages a library user may configure or silence."""
    return logging.getLogger(name)


def setup_console(verbosity: int = 0) -> None:
    """Send messages to stderr: warnings at -1, what was done at 0, details and tracebacks at 1."""
    set_level({-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG))


def set_level(level: int) -> None:
    """Send messages of at least `level` (of `logging`) to stderr; in a worker process: the level of its
    parent."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("wsi_mil")
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


def progress(items: Iterable[T], *, total: int | None, label: str, unit: str = "slide") -> Iterable[T]:
    """Iterate `items` behind a progress bar, which appears only on a terminal and after half a second."""
    from multiprocessing import parent_process

    from tqdm import tqdm

    # bars of several workers would write over each other; the parent's own counts their jobs
    disable = None if parent_process() is None else True
    return tqdm(items, total=total, desc=label, unit=unit, delay=0.5, disable=disable, dynamic_ncols=True)
