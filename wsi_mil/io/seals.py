"""Digests of content: what the program reads again is what it wrote. docs/adr/0020-digests.md says where each
file of a run has its digest.

A digest is part of the file itself where the format has a field for metadata (JSON, Parquet, Zarr,
safetensors, npz), because a file and a record beside it cannot be written in one step.
"""

import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from wsi_mil.errors import StoreError
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.logs import logger
from wsi_mil.paths import below

KEY = "content_digest"
AGAIN = "remove it, and run again what wrote it"


class DamagedFileError(StoreError, ValueError):
    """A file is not what was written: truncated, changed, or of another form."""

    def __init__(self, path: Path | str, what: str, remedy: str = AGAIN) -> None:
        super().__init__(f"{path} is damaged: {what}: {remedy}")


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with the digest of its content under `content_digest`.

    >>> sealed({"a": 1})
    {'a': 1, 'content_digest': '0cb17a3cc6ab6dec'}
    """
    return {**value, KEY: _digest({key: item for key, item in value.items() if key != KEY})}


def unsealed(value: Any, source: Path | str, remedy: str = AGAIN) -> dict[str, Any]:
    """Return a JSON object that `sealed` gave, without its digest. source: named in errors.

    An object without a digest (of an earlier version) is returned as it is; the first one is logged. Raises
    DamagedFileError for another digest, and for a value that is no object.

    >>> unsealed(sealed({"a": 1}), "x.json")
    {'a': 1}
    """
    if not isinstance(value, dict):
        raise DamagedFileError(source, f"expected a JSON object, found {type(value).__name__}", remedy)
    found = dict(value)
    expected = found.pop(KEY, None)
    if expected is None:
        _note_unsealed()
    else:
        require_digest(source, expected, _digest(found), remedy)
    return found


def require_digest(source: Path | str, expected: Any, found: str, remedy: str = AGAIN) -> None:
    """Raise DamagedFileError unless a content has the digest that was written with it."""
    if expected != found:
        raise DamagedFileError(source, f"expected content of digest {expected}, found {found}", remedy)


def _digest(value: Mapping[str, Any]) -> str:
    """Return the digest of the value that a reader of the JSON text gets: keys are text, tuples are lists."""
    return digest_json(json.loads(json.dumps(value)))


@lru_cache(maxsize=1)
def _note_unsealed() -> None:
    """Log once per process that a file has no digest."""
    logger().info("files of this run were written without digests, by an earlier version: read unchecked")


def current_digest(path: Path) -> str | None:
    """Return the digest of a file; None if there is none. Each state of a file is read once per process."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return None
    return _digest_of_state(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=1 << 16)
def _digest_of_state(path: Path, size: int, changed_ns: int, inode: int) -> str:
    """Return the digest of a file; the other arguments identify the state in which it is read."""
    return digest_file(path)


def file_digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """Return the digests of the files below `folder` that match `patterns`, by path relative to it."""
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in paths}


def changed_files(folder: Path, digests: Mapping[str, str]) -> list[str]:
    """Return the files of `file_digests` that are gone or have another content, sorted."""
    return sorted(name for name, digest in digests.items() if current_digest(below(folder, name)) != digest)
