"""One run folder, one writer: a lock file that names its owner and is recognised when the owner is gone."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_mil.errors import StoreError

NAME = ".lock"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder. Raises StoreError, naming the owner, if another live process has it.

    Made by exclusive creation, which works without POSIX locks; a lock whose process on this host has ended is taken
    over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    owner = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
    for _ in range(2):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if not _stale(path):
                raise StoreError(
                    f"{folder} is in use by {path.read_text(errors='replace').strip() or 'another process'}: wait for it, or "
                    f"remove {path} if that process is gone"
                ) from None
            path.unlink(missing_ok=True)
            continue
        with os.fdopen(handle, "w") as file:
            file.write(owner)
        break
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _stale(path: Path) -> bool:
    try:
        owner = json.loads(path.read_text())
        if owner["host"] != socket.gethostname():
            return False
        os.kill(int(owner["pid"]), 0)
    except (ProcessLookupError, FileNotFoundError):
        return True
    except (ValueError, KeyError, TypeError, PermissionError):
        return False
    return False
