"""One run folder, one writer: a lock file that names its owner, shows that the owner is alive, and is taken over when it is not."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from wsi_mil.errors import StoreError
from wsi_mil.logs import logger

NAME = ".lock"
BEAT_SECONDS = 15.0
STALE_SECONDS = 300.0
"""A process on another host whose lock was not touched for so long is taken for gone."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder. Raises StoreError, naming the owner, if another live process has it.

    Made by exclusive creation, which works on network file systems without POSIX locks, and touched every 15 seconds. A lock whose
    process on this host has ended is taken over at once, one of another host after five minutes of silence (by the file system's
    own clock, so that the hosts' need not agree).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    token = uuid4().hex
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "token": token,
    }
    _take(path, json.dumps(owner))
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, token, stop), name="lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if _owner(path).get("token") == token:
            path.unlink(missing_ok=True)


def _take(path: Path, owner: str) -> None:
    while not _create(path, owner):
        found = _text(path)
        if found and not (_stale(path, found) and _remove_stale(path, found)):
            raise StoreError(
                f"{path.parent} is in use by {found.strip()}: wait for it, or remove {path} if that process is gone"
            )


def _create(path: Path, text: str) -> bool:
    """Make a file that was not there; false if it was."""
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _remove_stale(path: Path, expected: str) -> bool:
    """Remove a stale lock; false if another process is about it. One at a time, or the second would remove the first one's new lock."""
    turn = path.with_name(f"{NAME}.takeover")
    if not _create(turn, str(os.getpid())):
        if _silence(turn) > STALE_SECONDS:
            turn.unlink(missing_ok=True)
        return False
    try:
        if _text(path) == expected:
            path.unlink(missing_ok=True)
        return True
    finally:
        turn.unlink(missing_ok=True)


def _beat(path: Path, token: str, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        if _owner(path).get("token") != token:
            logger().error(
                "the lock %s was taken away: another process may be writing into this run, stop one of them",
                path,
            )
            return
        with suppress(OSError):
            os.utime(path)


def _stale(path: Path, text: str) -> bool:
    try:
        owner = json.loads(text)
        here = owner["host"] == socket.gethostname()
        pid, started = int(owner["pid"]), owner.get("started")
    except (ValueError, KeyError, TypeError):
        return _silence(path) > STALE_SECONDS  # being written, or nobody's
    if not here:
        return _silence(path) > STALE_SECONDS
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return started is not None and _start_of(pid) not in (
        None,
        started,
    )  # its number was given to another process


def _silence(path: Path) -> float:
    """Seconds since the lock was touched, by the clock of the file system."""
    probe = path.with_name(f"{NAME}.{uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _start_of(pid: int) -> str | None:
    """When a process began, as the kernel counts it; None where that cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _text(path: Path) -> str:
    """What the lock says; '' if there is none, '{}' if it says nothing (yet)."""
    for _ in range(3):
        try:
            text = path.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        if text:
            return text
        time.sleep(0.02)  # between its creation and its first words
    return "{}"


def _owner(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
