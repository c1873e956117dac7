"""Write outcomes into the run folder while slides finish: a killed run loses those of a few seconds at
most."""

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from types import TracebackType

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.logs import logger, progress
from wsi_mil.run.folder import RunFolder

SAVE_SECONDS = 2.0
SAVING_FRACTION = 0.05
"""Saving takes at most this fraction of the time."""


class PacedSave:
    """Calls `save` after changes, but so rarely that saving takes at most a twentieth of the time.

    Leaving the `with` block saves once more, also after an exception or Ctrl-C.
    """

    def __init__(self, save: Callable[[], None], pause_s: float = 0.0) -> None:
        self.save = save
        self.least_pause_s = self.pause_s = pause_s
        self.saved_at = time.monotonic()

    def __enter__(self) -> "PacedSave":
        return self

    def changed(self) -> None:
        """Save now; if the last save was too recent, a later change will save."""
        if time.monotonic() - self.saved_at <= self.pause_s:
            return
        started = time.monotonic()
        self.save()
        self.saved_at = time.monotonic()
        self.pause_s = max(self.least_pause_s, (self.saved_at - started) / SAVING_FRACTION)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.save()


def stopped_at_the_end(outcomes: Iterable[Outcome]) -> AbstractContextManager[object]:
    """Return a context that stops the workers of these outcomes when it is left.

    Their generator stops them when it is closed. An exception elsewhere does not close it: its traceback
    keeps the generator alive, and the workers would continue after the lock of the run is released.
    """
    return closing(outcomes) if isinstance(outcomes, Generator) else nullcontext()


def record_outcomes(run: RunFolder, stage: str, outcomes: Iterable[Outcome], total: int) -> int:
    """Write outcomes into outcomes.csv while they arrive; return how many slides needed work.

    After an exception or a signal, worker processes stop first, and then the table is saved.
    """
    worked = 0
    with PacedSave(run.ledger.save, SAVE_SECONDS) as saving, stopped_at_the_end(outcomes):
        for outcome in progress(outcomes, total=total, label=stage):
            known = run.ledger.get(outcome.slide_id, stage)
            if outcome.reused and known is not None and known.digest == outcome.digest:
                continue
            run.ledger.put(outcome)
            saving.changed()
            worked += not outcome.reused
            if outcome.status == "failed":
                logger().warning("%s: %s failed: %s", stage, outcome.slide_id, outcome.reason)
    return worked
