"""An exception of one slide becomes a failed outcome, so that it never stops the other slides."""

import time
from collections.abc import Callable
from typing import Any

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import WsiMilError, one_line
from wsi_mil.logs import logger


def outcome_of(function: Callable[[Any], Outcome], stage: str, job: Any) -> Outcome:
    """Return `function(job)`; if it raises, the failed Outcome whose reason names the error.

    The traceback is logged at debug level (`wsi-mil -v`).
    """
    started = time.perf_counter()
    try:
        return function(job)
    except Exception as error:
        logger().debug("%s: %s failed", stage, job.slide_id, exc_info=True)
        return Outcome(job.slide_id, stage, "failed", reason_of(error), seconds=time.perf_counter() - started)


def reason_of(error: Exception) -> str:
    """Return in one line why a slide failed.

    >>> reason_of(OSError(28, "No space left on device", "x.zarr"))
    'No space left on device: x.zarr'
    """
    if isinstance(error, WsiMilError):
        reason = str(error)
    elif isinstance(error, MemoryError):
        reason = "out of memory: use fewer workers (execution.workers) or a larger tissue.mpp"
    elif isinstance(error, OSError):
        reason = f"{error.strerror or type(error).__name__}: {error.filename or error}"
    else:
        reason = f"unexpected {type(error).__name__}: {error}"
    return one_line(reason)
