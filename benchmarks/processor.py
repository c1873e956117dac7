"""Seconds that a command takes, of wall time and of processor time with all processes that it starts (Linux).

Processor time hardly depends on what else the machine does; wall time does.
"""

import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make orphans children of this process: workers are forked from a server that outlives the command."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def timed(arguments: Sequence[str]) -> tuple[float, float]:
    """Run `wsi-mil ARGUMENTS`; return seconds of wall time and of processor time. Call `adopt_orphans`
    before."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    command = [sys.executable, "-c", "from wsi_mil.cli import main; main()", "--quiet", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    try:
        while True:
            os.wait()
    except ChildProcessError:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
