"""Write outcomes into the run folder while slides finish: a killed run loses those of a few seconds at
most."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import MachineError
from wsi_mil.execution import stopped_at_the_end
from wsi_mil.logs import logger, progress
from wsi_mil.run.error_files import update_error_file
from wsi_mil.run.folder import RunFolder

SAVE_SECONDS = 2.0
STOPS_AFTER = 10
"""A stage ends after this many slides in a row that failed because of the machine."""
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


class MachineWatch:
    """Counts the slides of a stage that failed for the machine's reasons, and stops where there are many.

    With a full disk every further slide fails as well, and later stages would work on a part of the cohort.
    A slide that ran out of memory may be at fault itself: only together with more than half of all slides of
    the stage it stops the run, so that a few such slides never stop the others at every resume.
    """

    def __init__(self, stage: str, total: int) -> None:
        self.stage, self.total = stage, total
        self.worked = self.machine = self.memory = self.in_a_row = 0
        self.last: Outcome | None = None

    def add(self, outcome: Outcome) -> None:
        """Count an outcome. Raises MachineError if `STOPS_AFTER` slides in a row failed."""
        if outcome.reused:
            return
        self.worked += 1
        cause = outcome.cause if outcome.status == "failed" else "slide"
        self.machine += cause == "machine"
        self.memory += cause == "memory"
        self.in_a_row = self.in_a_row + 1 if cause == "machine" else 0
        if cause != "slide":
            self.last = outcome
        if self.in_a_row >= STOPS_AFTER:
            self._stop()

    def end(self) -> None:
        """Raise MachineError if most slides of the stage failed for the machine's reasons."""
        if self.machine > self.worked / 2 or self.machine + self.memory > self.total / 2:
            self._stop()

    def _stop(self) -> None:
        assert self.last is not None
        raise MachineError(
            f"{self.stage}: {self.machine + self.memory} of {self.worked} slides failed because of this "
            f"machine, not of the slides; the last, {self.last.slide_id}: {self.last.reason}; no later stage "
            "was started: mend this and run the same command again"
        )


def record_outcomes(run: RunFolder, stage: str, outcomes: Iterable[Outcome], total: int) -> int:
    """Write outcomes into outcomes.csv while they arrive; return how many slides needed work.

    The traceback of a failed slide goes into its error file, and to the debug log (`wsi-mil -v`).
    Raises MachineError if most slides failed because of the machine: see `MachineWatch`.
    After an exception or a signal, worker processes stop first, and then the table is saved.
    """
    worked = 0
    watch = MachineWatch(stage, total)
    with PacedSave(run.ledger.save, SAVE_SECONDS) as saving, stopped_at_the_end(outcomes):
        for outcome in progress(outcomes, total=total, label=stage):
            known = run.ledger.get(outcome.slide_id, stage)
            same = known is not None and (known.status, known.digest) == (outcome.status, outcome.digest)
            if known is not None and outcome.reused and same:
                if outcome.state != known.state:  # the contents are the same, the files have another time
                    run.ledger.put(replace(known, state=outcome.state))
                    saving.changed()
                continue
            run.ledger.put(outcome)
            saving.changed()
            worked += not outcome.reused
            if outcome.status == "failed":
                logger().warning("%s: %s failed: %s", stage, outcome.slide_id, outcome.reason)
                logger().debug("%s", outcome.traceback)
            update_error_file(run, outcome)
            watch.add(outcome)
    watch.end()
    return worked
