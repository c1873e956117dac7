"""Slides that killed the process which worked on them: the next run fails them at once.

Nothing is stored but the row in outcomes.csv. Its count `signal` says what killed the process, and its digest
what was worked on: the file, the settings, and the versions of the packages.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from wsi_mil.config.provenance import package_versions
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import WsiMilError
from wsi_mil.io.files import digest_json, fingerprint
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.recording import stopped_at_the_end

FAULTS = {int(getattr(signal, name)) for name in ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")}
"""Signals that a process sends itself, because of what it reads. SIGKILL comes from outside, for example for
want of memory: such a slide is tried again."""


class SlideJob(Protocol):
    """A job that opens a slide. Its text (`repr`) names all its settings."""

    @property
    def slide_id(self) -> str: ...

    @property
    def source(self) -> SlideSource: ...


J = TypeVar("J", bound=SlideJob)


def without_killers(
    run: RunFolder, stage: str, jobs: Sequence[J], work: Callable[[list[J]], Iterator[Outcome]]
) -> Iterator[Outcome]:
    """Yield the outcomes of `work`, which gets only the jobs that have not killed their process before.

    The others fail as in the run before, unless their file, their settings or a package have changed since.
    Removing their row from outcomes.csv lets them be tried again.
    """
    waiting: list[J] = []
    for job in jobs:
        known = run.ledger.get(job.slide_id, stage)
        if known is not None and _at_fault(known) and known.digest and known.digest == _tried(job):
            yield replace(known, reused=True)
        else:
            waiting.append(job)
    by_slide = {job.slide_id: job for job in waiting}
    outcomes = work(waiting)
    with stopped_at_the_end(outcomes):
        for outcome in outcomes:
            if _at_fault(outcome):
                outcome = replace(outcome, digest=_tried(by_slide[outcome.slide_id]))
            yield outcome


def _at_fault(outcome: Outcome) -> bool:
    return outcome.status == "failed" and outcome.counts.get("signal") in FAULTS


def _tried(job: SlideJob) -> str:
    """Return the digest of what is worked on; "" if the file cannot be read, so that it is tried again."""
    try:
        source = fingerprint(job.source.file)
    except (OSError, WsiMilError):
        return ""
    return digest_json([source, repr(job), package_versions()])
