"""Slides that killed the process which worked on them: the next run fails them at once.

Nothing is stored but the row in outcomes.csv. Its count `signal` says what killed the process, and its digest
what was worked on: the files, the settings, and the versions of the packages.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeGuard, TypeVar

from wsi_mil.config.provenance import package_versions
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import WsiMilError
from wsi_mil.execution import stopped_at_the_end
from wsi_mil.io.files import digest_json
from wsi_mil.io.remote import Location
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides.state import slide_state

FAULTS = {int(getattr(signal, name)) for name in ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")}
"""Signals that a process sends itself, because of what it reads. SIGKILL comes from outside, for example for
want of memory: such a slide is tried again."""


class Job(Protocol):
    """A job of one slide. Its text (`repr`) names all its settings."""

    @property
    def slide_id(self) -> str: ...


class SlideJob(Job, Protocol):
    """A job that opens a slide."""

    @property
    def source(self) -> SlideSource: ...


S = TypeVar("S", bound=SlideJob)
J = TypeVar("J", bound=Job)
Work = Callable[[list[J]], Iterator[Outcome]]


def without_killers(run: RunFolder, stage: str, jobs: Sequence[S], work: Work[S]) -> Iterator[Outcome]:
    """Yield the outcomes of `work` on jobs that open slides: see `without_killers_of`."""
    return without_killers_of(run, stage, jobs, work, _slide_file)


def without_killers_of(
    run: RunFolder, stage: str, jobs: Sequence[J], work: Work[J], files: Callable[[J], Sequence[Location]]
) -> Iterator[Outcome]:
    """Yield the outcomes of `work`, which gets only the jobs that have not killed their process before.

    files: the files or folders that a job reads. The other jobs fail as in the run before, unless their
    files, their settings or a package have changed since. Removing their row from outcomes.csv lets them be
    tried again. A slide whose file was replaced during the work is tried again: which of the two files killed
    the process is not known.
    """
    waiting: list[J] = []
    for job in jobs:
        known = run.ledger.get(job.slide_id, stage)
        if killed_its_process(known) and known.digest and known.digest == _tried(job, files(job)):
            yield replace(known, reused=True)
        else:
            waiting.append(job)
    by_slide = {job.slide_id: (job, _file_states(files(job))) for job in waiting}
    outcomes = work(waiting)
    with stopped_at_the_end(outcomes):
        for outcome in outcomes:
            if killed_its_process(outcome):
                job, before = by_slide[outcome.slide_id]
                read = files(job)
                digest = _tried(job, read)  # before the files are compared: it is of those that are compared
                outcome = replace(outcome, digest=digest if _file_states(read) == before else "")
            yield outcome


def _slide_file(job: SlideJob) -> list[Location]:
    return [] if job.source.path is None else [job.source.path]


def killed_its_process(outcome: Outcome | None) -> TypeGuard[Outcome]:
    """Return whether this is the outcome of a slide that killed the process which worked on it."""
    return outcome is not None and outcome.status == "failed" and outcome.counts.get("signal") in FAULTS


def _file_states(files: Sequence[Location]) -> list[tuple[int, int, int] | None]:
    """Return size, time and number of each file; None for a URL, and where there is no file.

    The digest of the content takes milliseconds: it is computed only for slides that killed their process.
    """
    return [_file_state(file) for file in files]


def _file_state(file: Location) -> tuple[int, int, int] | None:
    if isinstance(file, str):
        return None
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _tried(job: Job, files: Sequence[Location]) -> str:
    """Return the digest of what is worked on; "" if a file cannot be read, so that it is tried again."""
    try:
        sources = [slide_state(file, job.slide_id).digest for file in files]
    except (OSError, WsiMilError):
        return ""
    return digest_json([*sources, repr(job), package_versions()])
