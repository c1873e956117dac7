"""Files whose size, packed and unpacked, is compared with a limit before they are read."""

import gzip
import math
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from wsi_mil import limits
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.limits import Limit

PIECE_BYTES = limits.MIB
Arrays = dict[str, NDArray[np.generic]]


def check_size(path: Path, limit: Limit, error: type[WsiMilError] = DataError) -> None:
    """Raise `error` for a file that is larger than a limit in bytes; OSError if it is absent."""
    limit.check(path.stat().st_size, str(path), error)


def read_unpacked(path: Path, limit: Limit) -> bytes:
    """Return the bytes of a file, unpacked if it is gzip. Raises DataError if they are more than a limit in
    bytes, of which at most one more is unpacked."""
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    if not packed:
        check_size(path, limit)
    pieces, size = [], 0
    with gzip.open(path) if packed else path.open("rb") as handle:
        # piece by piece: memory for all that one call may return is taken before it reads
        while size <= limit.most and (piece := handle.read(min(PIECE_BYTES, limit.most + 1 - size))):
            pieces.append(piece)
            size += len(piece)
    limit.check(size, str(path))
    return b"".join(pieces)


def check_zip(file: Path | IO[bytes], limit: Limit, where: str, error: type[WsiMilError] = DataError) -> None:
    """Raise `error` if the members of a zip file have more bytes, unpacked, than a limit.

    The sizes are those that the directory of the file states: no library unpacks more of a member. Of another
    file (.pt in its old form) the size is compared; the rest is left to the library that reads it.
    """
    if isinstance(file, Path):
        check_size(file, limit, error)
    try:
        with ZipFile(file) as members:
            total = sum(member.file_size for member in members.infolist())
    except BadZipFile:
        return
    limit.check(total, where, error)


def read_npz(path: Path) -> Arrays:
    """Return the arrays of an .npz file by name, without pickle.

    Raises DataError for more than limits.ARRAY_BYTES, and for an array that states more bytes than its
    member has: numpy allocates what is stated. Raises what numpy and zipfile raise for a damaged file.
    """
    check_zip(path, limits.ARRAY_BYTES, str(path))
    with np.load(path, allow_pickle=False) as arrays:
        for member in arrays.zip.infolist():
            with arrays.zip.open(member) as handle:
                _check_member(handle, member.file_size, f"{path}: {member.filename}")
        return {name: arrays[name] for name in arrays.files}


def _check_member(handle: IO[bytes], size: int, where: str) -> None:
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(handle)
    stated = math.prod(shape) * dtype.itemsize
    if stated > size:
        raise DataError(f"{where} states {stated:,} bytes, its file has {size:,}: {limits.DAMAGED_FILE}")
