"""Whether the files of a slide are in the state in which they were last compared with their digests.

A second run reads no file that has not been changed: outcomes.csv holds, for each slide and stage, a digest
of the settings and of size, time of change and number of all files that the stage read and wrote
(docs/adr/0029-file-states.md). Where it differs, the stage compares the contents, as it does without it.
Whatever reads a file later compares its digest in any case, and so does `wsi-mil check --deep`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple, Protocol, TypeVar

import wsi_mil
from wsi_mil.config.provenance import package_versions
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.spec import Spec
from wsi_mil.execution import stopped_at_the_end
from wsi_mil.io.files import digest_json
from wsi_mil.run.folder import RunFolder


class FileState(NamedTuple):
    """Size in bytes, time of the last change in ns, and number in the file system."""

    size_bytes: int
    mtime_ns: int
    inode: int


class Job(Protocol):
    """A job of one slide."""

    @property
    def slide_id(self) -> str: ...


J = TypeVar("J", bound=Job)


def file_state(path: str | os.PathLike[str]) -> FileState | None:
    """Return the state of a file; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return FileState(found.st_size, found.st_mtime_ns, found.st_ino)


def states_of(run: RunFolder, names: Iterable[str]) -> list[FileState | None]:
    """Return the states of files of a run. names: relative to its folder; nothing is opened."""
    return [file_state(f"{run.path}/{name}") for name in names]


def states_below(run: RunFolder, name: str) -> list[FileState | None]:
    """Return the states of all files in a folder of a run and in those below it; [None] without one."""
    try:
        entries = sorted(os.scandir(f"{run.path}/{name}"), key=lambda entry: entry.name)
    except OSError:
        return [None]
    found: list[FileState | None] = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            found += states_below(run, f"{name}/{entry.name}")
        else:
            found.append(file_state(entry.path))
    return found


def digest_of_states(
    settings: object, read: Sequence[FileState | None], made: Sequence[FileState | None]
) -> str:
    """Return the digest of settings and states; "" if a file that the stage has made is not there.

    settings: JSON values. read: of files that the stage reads, made: of those that it writes. Another version
    of the program or of a package that results depend on gives another digest.

    >>> len(digest_of_states(["otsu"], [None], [FileState(3, 5, 7)])), digest_of_states([], [], [None])
    (16, '')
    """
    if not made or None in made:
        return ""
    return digest_json([_program(), settings, read, made])


@lru_cache(maxsize=64)
def settings_digest(*specs: Spec) -> str:
    """Return the digest of several settings, computed once for all slides."""
    return digest_json([spec.digest() for spec in specs])


@cache
def _program() -> str:
    return digest_json([wsi_mil.__version__, package_versions()])


def without_unchanged(
    run: RunFolder,
    stage: str,
    jobs: Sequence[J],
    state_of: Callable[[J], str],
    work: Callable[[list[J]], Iterator[Outcome]],
) -> Iterator[Outcome]:
    """Yield the outcomes of `jobs`: the recorded ones where the state of the slide's files is the recorded
    one, and those of `work` for the other slides."""
    waiting = []
    for job in jobs:
        known = run.ledger.get(job.slide_id, stage)
        if known is not None and known.state and known.status != "failed" and known.state == state_of(job):
            yield replace(known, reused=True)
        else:
            waiting.append(job)
    outcomes = work(waiting)
    with stopped_at_the_end(outcomes):
        yield from outcomes
