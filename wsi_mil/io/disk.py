"""Errors of writing: which file, how many bytes, how many are free, and what to do.

The libraries that write files report a full disk in ways of their own: an errno, a number within a text
(safetensors, HDF5), or a text that names neither the file nor the cause (torch, NumPy).
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_mil.errors import MachineError, WsiMilError

FREE_SPACE = "remove files there, or choose another folder"
ADVICE = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: "your quota is used up: remove files, or ask for more",
    errno.EFBIG: "files may not be that large here (`ulimit -f`, or the file system): raise the limit, or "
    "choose another folder",
    errno.EROFS: "the file system is read-only: mount it for writing, or choose another folder",
    errno.EIO: "the disk or its network connection fails: see the system's log",
    errno.EACCES: "you may not write there: change the permissions, or choose another folder",
    errno.EPERM: "you may not write there: change the permissions, or choose another folder",
}
ANYWHERE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Only writing raises these. The others may come from a slide that is read meanwhile: their file decides."""
NUMBER_IN_TEXT = re.compile(r"(?:os error|errno[ =]+)\s*(\d+)")
PROBE = bytes(1 << 16)


@contextmanager
def writing(path: Path, aside: Path | None = None, needs: int | None = None) -> Iterator[None]:
    """Raise MachineError, with file, need and free space, for an error that the disk is to blame for.

    aside: the file or folder that is written, if it is not `path` itself. needs: its size in bytes, if that
    is known; otherwise the error says how many bytes had been written. Other errors pass.
    """
    written_to = aside or path
    try:
        yield
    except MachineError:
        raise
    except Exception as error:
        number = _number(error, path, written_to)
        if number is None:
            raise
        written = bytes_in(written_to)
        what = f"{needs:,} bytes needed" if needs is not None else f"failed after {written:,} bytes"
        raise MachineError(
            f"{path} cannot be written: {os.strerror(number)} ({what}, {free_text(path)}): {ADVICE[number]}; "
            "then run the same command again"
        ) from error


def _number(error: Exception, path: Path, written_to: Path) -> int | None:
    """Return the errno of an error of writing, None if the error is another one."""
    if isinstance(error, WsiMilError):  # an error of reading, or of a download into a file
        cause = error.__cause__
        return cause.errno if isinstance(cause, OSError) and cause.errno in ANYWHERE else None
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in ANYWHERE or (error.errno in ADVICE and _is_of(error.filename, path, written_to)):
            return error.errno
        return None if error.errno in ADVICE or error.filename is not None else _probed(written_to)
    found = NUMBER_IN_TEXT.search(str(error))
    if found and int(found[1]) in ANYWHERE:
        return int(found[1])
    return _probed(written_to)


def _is_of(filename: object, path: Path, written_to: Path) -> bool:
    """Return whether an error's file is one of those that are written, or a folder that holds them."""
    if not isinstance(filename, str | bytes | os.PathLike):
        return False
    named = Path(os.fsdecode(filename))
    return named in (path, written_to) or named in written_to.parents or written_to in named.parents


def _probed(written_to: Path) -> int | None:
    """Return the errno of writing a little more where writing failed; None if that works.

    Some libraries raise errors that say nothing of the cause. What failed is still on disk then.
    """
    files = _files(written_to)
    if not files:
        return None
    try:
        with max(files, key=lambda file: file.stat().st_size).open("ab") as handle:
            handle.write(PROBE)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        return error.errno if error.errno in ADVICE else None
    return None


def bytes_in(path: Path) -> int:
    """Return the size of a file, or of all files in a folder; 0 if there is nothing."""
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in path.rglob("*") if file.is_file()]
    return [path] if path.is_file() else []


def free_text(path: Path) -> str:
    """Return how many bytes are free on the file system that holds `path` or would hold it."""
    for folder in (path, *path.parents):
        try:
            return f"{shutil.disk_usage(folder).free:,} bytes free on its file system"
        except OSError:  # not there, or not to be seen: the folder above it says the same
            continue
    return "free space unknown"
