"""What a worker process is doing with slides, for the process that watches it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

OPENING = "opening"
Report = Callable[[str, int, str], None]
"""(slide id, thread, what is being done) -> None; "" where the thread does nothing more with the slide."""

_reports: list[Report] = []


class _Doing(threading.local):
    """What the running thread does with each slide: the last one, within those before it."""

    def __init__(self) -> None:
        self.by_slide: dict[str, list[str]] = {}


_doing = _Doing()


def report_to(report: Report) -> None:
    """Let `activity` call `report` in this process: a worker sends it on to its parent."""
    _reports[:] = [report]


@contextmanager
def activity(slide_id: str, what: str) -> Iterator[None]:
    """Report that this thread does `what` with a slide, and after the block what it did before.

    If the process dies within the block, the reason of the failed slide is "... while {what}". Outside a
    worker process nothing happens.

    >>> with activity("a", "finding tissue"):
    ...     with activity("a", "reading tiles"):
    ...         pass
    """
    names = _doing.by_slide.setdefault(slide_id, [])
    names.append(what)
    _report(slide_id, what)
    try:
        yield
    finally:
        names.pop()
        if not names:
            _doing.by_slide.pop(slide_id, None)
        _report(slide_id, names[-1] if names else "")


@contextmanager
def activities(slide_ids: Iterable[str], what: str) -> Iterator[None]:
    """Report the same activity of several slides, for example of those in one batch."""
    with ExitStack() as stack:
        for slide_id in dict.fromkeys(slide_ids):
            stack.enter_context(activity(slide_id, what))
        yield


def _report(slide_id: str, what: str) -> None:
    for report in _reports:
        report(slide_id, threading.get_ident(), what)


class Reported:
    """What the threads of another process do with slides, from the reports of their activities.

    >>> reported = Reported()
    >>> reported.put("a", 1, "computing features")
    >>> reported.put("a", 2, "reading tiles")
    >>> reported.of("a")
    'computing features and reading tiles'
    """

    def __init__(self) -> None:
        self._by_slide: dict[str, dict[int, tuple[str, float]]] = {}

    def put(self, slide_id: str, thread: int, what: str) -> None:
        """Note what a thread does with a slide from now on; "": nothing more."""
        threads = self._by_slide.setdefault(slide_id, {})
        threads.pop(thread, None)  # the latest report is the last
        if what:
            threads[thread] = what, time.monotonic()

    def forget(self, slide_id: str) -> None:
        """Forget a slide that is finished."""
        self._by_slide.pop(slide_id, None)

    def of(self, slide_id: str) -> str:
        """Return what is being done with a slide, earliest first: of several threads, which one failed is
        not known; "" if nothing is reported."""
        return " and ".join(dict.fromkeys(what for what, _ in self._by_slide.get(slide_id, {}).values()))

    def opening(self) -> Iterator[tuple[float, str]]:
        """Yield (since when, slide) of every slide that is being opened."""
        for slide_id, threads in self._by_slide.items():
            for what, since in threads.values():
                if what == OPENING:
                    yield since, slide_id
