"""The lock of a run folder: one process at a time writes into it. docs/adr/0015-lock.md: why not by a
library."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from wsi_mil.errors import StoreError
from wsi_mil.io.disk import writing
from wsi_mil.io.json import json_line, parse_json
from wsi_mil.logs import logger
from wsi_mil.run.error_files import keeping_traceback

NAME = ".lock"
REFRESH_SECONDS = 15.0
STALE_SECONDS = 300.0
"""The lock of a process on another host is stale if it was not refreshed for so long."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock. `started`: when it began, since the system may give its number to
    another one."""

    host: str
    pid: int
    started: str | None = None
    token: str = ""

    @classmethod
    def this_process(cls) -> "Owner":
        """Return an owner for this process, different at every call."""
        return cls(socket.gethostname(), os.getpid(), _start_time(os.getpid()), uuid4().hex)

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """Return the owner that a lock file names; None if it does not name one (yet)."""
        try:
            found = parse_json(text)
            return cls(found["host"], int(found["pid"]), found.get("started"), found.get("token", ""))
        except (ValueError, KeyError, TypeError):
            return None

    def has_ended(self) -> bool | None:
        """Return whether the process has ended; None if that cannot be known because it is on another
        host."""
        if self.host != socket.gethostname():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return self.started is not None and _start_time(self.pid) not in (None, self.started)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder. Raises StoreError that names the owner if another process holds it.

    The file is made by exclusive creation, which works on network file systems without POSIX locks, and is
    touched every 15 seconds. The lock of a process on this host that has ended is taken over at once. The
    lock of another host is taken over after five minutes without a touch, by the clock of the file system.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path, owner = folder / NAME, Owner.this_process()
    _acquire(path, json_line(asdict(owner)))
    stop = threading.Event()
    refreshing = threading.Thread(target=_refresh, args=(path, owner, stop), name="lock", daemon=True)
    refreshing.start()
    try:
        with keeping_traceback(folder):
            yield
    finally:
        stop.set()
        refreshing.join()
        if Owner.parse(_read(path)) == owner:
            path.unlink(missing_ok=True)


def _acquire(path: Path, text: str) -> None:
    while not _create(path, text):
        found = _read(path)
        if found and not (_is_stale(path, found) and _remove_stale(path, found)):
            raise StoreError(
                f"{path.parent} is in use by {found.strip()}: "
                f"wait for it, or remove {path} if that process has ended"
            )


def _create(path: Path, text: str) -> bool:
    """Make the file; return False if it exists."""
    try:
        with writing(path, needs=len(text)):
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(text)
            except BaseException:  # an empty lock would name no owner
                path.unlink()
                raise
    except FileExistsError:
        return False
    return True


def _is_stale(path: Path, text: str) -> bool:
    owner = Owner.parse(text)
    ended = owner.has_ended() if owner else None
    return _seconds_since_touched(path) > STALE_SECONDS if ended is None else ended


def _remove_stale(path: Path, expected: str) -> bool:
    """Remove a stale lock; return False if another process is removing it.

    Only one process at a time may do so: a second one could remove the new lock of the first.
    """
    claim = path.with_name(f"{NAME}.takeover")
    if not _create(claim, str(os.getpid())):
        if _seconds_since_touched(claim) > STALE_SECONDS:
            claim.unlink(missing_ok=True)
        return False
    try:
        if _read(path) == expected:
            path.unlink(missing_ok=True)
        return True
    finally:
        claim.unlink(missing_ok=True)


def _refresh(path: Path, owner: Owner, stop: threading.Event) -> None:
    while not stop.wait(REFRESH_SECONDS):
        if Owner.parse(_read(path)) != owner:
            logger().error(
                "the lock %s was replaced: another process may be writing into this run, stop one of them",
                path,
            )
            return
        with suppress(OSError):
            os.utime(path)


def _seconds_since_touched(path: Path) -> float:
    """Return the seconds since a file was touched, by the clock of its file system: clocks of hosts may
    differ."""
    probe = path.with_name(f"{NAME}.{uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _start_time(pid: int) -> str | None:
    """Return when a process began, as the Linux kernel counts it; None on other systems."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _read(path: Path) -> str:
    """Return the text of a lock; "" if there is no lock, "{}" if its owner has not written it yet."""
    for _ in range(3):
        try:
            text = path.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        if text:
            return text
        time.sleep(0.02)  # the owner has created the file and is about to write into it
    return "{}"
