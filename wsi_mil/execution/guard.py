"""An exception of one slide becomes a failed outcome, so that it never stops the other slides."""

import errno
import pickle
import time
import traceback
from collections.abc import Callable
from copy import copy
from typing import Any

from wsi_mil.contracts.outcome import Cause, Outcome
from wsi_mil.errors import MachineError, WsiMilError, one_line, printable
from wsi_mil.logs import logger

LONGEST_TRACEBACK = 20_000
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
MEMORY = {"MemoryError", "OutOfMemoryError"}
DEVICE = {"AcceleratorError"}
"""Classes of torch (OutOfMemoryError, AcceleratorError) by name: importing torch takes seconds."""


def outcome_of(function: Callable[[Any], Outcome], stage: str, job: Any) -> Outcome:
    """Return `function(job)`; if it raises, the failed Outcome of the error."""
    started = time.perf_counter()
    try:
        return function(job)
    except Exception as error:
        return failed(job.slide_id, stage, error, time.perf_counter() - started)


def failed(slide_id: str, stage: str, error: Exception, seconds: float = 0.0) -> Outcome:
    """Return the failed Outcome of a slide: its reason names the error, and it holds the traceback.

    To be called in the process that raised the error: an exception loses its traceback on its way to another.
    """
    return Outcome(
        slide_id,
        stage,
        "failed",
        reason_of(error),
        seconds=seconds,
        cause=cause_of(error),
        traceback=traceback_of(error),
    )


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


def cause_of(error: BaseException) -> Cause:
    """Return whether the slide, the machine or memory is at fault, by the types of the error and its causes.

    >>> cause_of(OSError(28, "No space left on device")), cause_of(MemoryError()), cause_of(ValueError("x"))
    ('machine', 'memory', 'slide')
    """
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:  # `raise error from error` makes an error its own cause
        classes = {kind.__name__ for kind in type(one).__mro__}
        if isinstance(one, MachineError) or classes & DEVICE:
            return "machine"
        if isinstance(one, OSError) and one.errno in DISK:
            return "machine"
        if classes & MEMORY:
            return "memory"
        seen.append(one)
        one = one.__cause__
    return "slide"


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error and of its causes as text; of a long one the middle is left out.

    Characters that a terminal would act upon are escaped: messages may hold names from files.
    """
    lines = "".join(traceback.format_exception(error)).splitlines()
    text = "\n".join(map(printable, lines))
    if len(text) <= LONGEST_TRACEBACK:
        return text
    half = LONGEST_TRACEBACK // 2
    return f"{text[:half]}\n... ({len(text) - 2 * half:,} characters left out) ...\n{text[-half:]}"


def portable(error: Exception) -> Exception:
    """Return an error that can be sent to another process, with its traceback as a note."""
    try:
        pickle.dumps(error)
        copy(error)
    except Exception:  # some classes of libraries cannot be made again from their arguments
        logger().debug("%s cannot be sent to another process", type(error).__name__, exc_info=True)
        found: Exception = RuntimeError(reason_of(error))
    else:
        found = error
    found.add_note(traceback_of(error))
    return found
