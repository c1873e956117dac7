"""What a worker process is doing with a slide, for the process that watches it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

OPENING = "opening"
Report = Callable[[str, str], None]
"""(slide id, what is being done) -> None; "" where nothing is named any more."""

_reports: list[Report] = []


def report_to(report: Report) -> None:
    """Let `activity` call `report` in this process: a worker sends it on to its parent."""
    _reports[:] = [report]


@contextmanager
def activity(slide_id: str, what: str) -> Iterator[None]:
    """Report that `what` is being done with a slide, and after the block that it has ended.

    If the process dies within the block, the reason of the failed slide is "... while {what}". Outside a
    worker process nothing happens.

    >>> with activity("a", "finding tissue"):
    ...     pass
    """
    for report in _reports:
        report(slide_id, what)
    try:
        yield
    finally:
        for report in _reports:
            report(slide_id, "")
