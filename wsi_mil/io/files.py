"""Files that are either whole or absent: written under a temporary name, flushed, renamed; and digests."""

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsi_mil.errors import StoreError
from wsi_mil.io.disk import writing
from wsi_mil.io.remote import Location, remote_version

TEMPORARY = ".tmp"
CLOCK_SECONDS = 2.0
"""How far the times of files and of processes may differ."""
ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", "tiles/zarr.json", "features/zarr.json")
"""Files that are in each Zarr store, of format 3 and of format 2, or in one of ours that lost its own."""
DAY_SECONDS = 86_400
PIECES, PIECE_BYTES = 64, 4096


@contextmanager
def write_aside(path: Path, needs: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on any error removed.

    needs: how many bytes will be written, if that is known. Raises MachineError, with the path, where the
    operating system or a library cannot write (a full disk, a read-only folder).
    """
    aside = _temporary_name(path)
    try:
        with writing(path, aside, needs):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove(aside)
            yield aside
            _flush(aside)
            if path.is_dir() and not path.is_symlink():
                # A folder cannot be replaced in one step. The old one is removed first: a kill in between
                # leaves no folder, never an incomplete one.
                remove(path)
            os.replace(aside, path)
    except BaseException:
        with suppress(OSError):  # the error above says what is wrong with the folder
            remove(aside)
        raise


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb+") as handle:
            os.fsync(handle.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there; of a link the link alone. No other code removes anything.

    A folder is removed only if this program made it: a Zarr store or group, or one under a temporary name.
    Raises StoreError for another one that is not empty.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not path.name.endswith(TEMPORARY):
        if any(path.iterdir()) and not any((path / name).is_file() for name in ZARR_MARKS):
            raise StoreError(
                f"{path} is in the way and was not made by wsi_mil (no zarr.json in it): move it elsewhere"
            )
        # renamed first: a kill in the middle leaves a temporary name, which the next run removes
        path = path.rename(_temporary_name(path, ".removed"))
    shutil.rmtree(path)


def refuse_to_replace(folder: Path, names: Collection[str] = ()) -> None:
    """Raise StoreError if `folder` holds a file of `names`, or, without names, any file that is not hidden.

    A command calls it for a folder that has no sign that the command wrote it before: its files are then
    those of the user, or of another program.
    """
    found = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
    found = [name for name in found if not names or name in names]
    if found:
        raise StoreError(
            f"{folder} holds {', '.join(found[:3])}, not written by this command, which would replace files "
            "there: choose another folder, or move them elsewhere"
        )


def remove_made_files(folder: Path, endings: tuple[str, ...]) -> None:
    """Remove the files below `folder` that have one of `endings`, and the folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.name.endswith(endings):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _temporary_name(path: Path, use: str = "") -> Path:
    """Return a name beside `path`, of this process. `_owner_is_gone` reads host and process from it."""
    return path.with_name(f".{path.name}{use}.{_host()}.{os.getpid()}{TEMPORARY}")


def sweep_temporaries(folder: Path) -> int:
    """Remove what a killed process left under a temporary name in `folder`; return how many there were."""
    left = [path for path in folder.glob(f".*{TEMPORARY}") if _owner_is_gone(path)] if folder.is_dir() else []
    for path in left:
        remove(path)
    return len(left)


def _host() -> str:
    """Return this host's name without dots: dots separate the fields of a temporary name."""
    return socket.gethostname().replace(".", "-") or "localhost"


def _owner_is_gone(path: Path) -> bool:
    """Return whether the process that wrote `path` has ended.

    Processes of other hosts cannot be seen: their files count as left over after a day without a change.
    """
    fields = path.name.removesuffix(TEMPORARY).split(".")
    host, pid = fields[-2], fields[-1]
    if not pid.isdigit():
        return False
    try:
        changed_s = path.stat().st_mtime
    except FileNotFoundError:  # its owner has just renamed it
        return False
    if host != _host():
        return time.time() - changed_s > DAY_SECONDS
    return _has_ended(int(pid), changed_s)


def _has_ended(pid: int, since_s: float) -> bool:
    """Return whether the process that had a number at a time (seconds since 1970) has ended.

    A process that its parent has not awaited yet still has its number. A later process can have the same
    number. Linux says both; elsewhere a process counts as running while its number is in use.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return False
    age_s = uptime_s - int(fields[18]) / os.sysconf("SC_CLK_TCK")
    return state == "Z" or time.time() - age_s > since_s + CLOCK_SECONDS


def fingerprint(path: Location) -> str:
    """Return a digest that changes when a large file is replaced, without reading all of it (milliseconds).

    A file: its size and 64 pieces of 4 KiB spread over it, the first and the last included. A folder: names
    and sizes of its files. A URL: what its server states about the version.
    """
    if isinstance(path, str):
        return digest_json(remote_version(path))
    if path.is_dir():
        return digest_json(
            sorted((str(p.relative_to(path)), p.stat().st_size) for p in path.rglob("*") if p.is_file())
        )
    size = path.stat().st_size
    found = hashlib.sha256(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        for number in range(PIECES):
            file.seek(max(size - PIECE_BYTES, 0) * number // (PIECES - 1))
            found.update(file.read(PIECE_BYTES))
    return found.hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`, whole or not at all."""
    with write_aside(path, len(content)) as aside:
        aside.write_bytes(content)


def digest_bytes(*parts: bytes) -> str:
    """Return the SHA-256 of `parts`, each counted with its length, in 16 hexadecimal digits.

    >>> digest_bytes(b"ab", b"c") == digest_bytes(b"a", b"bc")
    False
    """
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()[:16]


def digest_json(value: Any) -> str:
    """Return the digest of a value's canonical JSON text (sorted keys, no spaces).

    >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    True
    """
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def digest_file(path: Path) -> str:
    """Return the digest of a file's content, read in pieces of 1 MiB."""
    total = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            total.update(piece)
    return total.hexdigest()[:16]
