"""Stored features mapped into memory, without a copy. Reading through Zarr takes several times as long.

The arrays are not compressed, so a chunk of rows is a sequence of little-endian float16 in the file of its
shard. The index at the end of that file holds offset and size of every chunk as uint64 (specification of Zarr
v3, sharding_indexed).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from wsi_mil import limits
from wsi_mil.errors import StoreError
from wsi_mil.io.json import read_plain_json

MISSING = np.iinfo(np.uint64).max
CHECKSUM_BYTES = 4
MAPPED_SHARDS = 256


@lru_cache(maxsize=MAPPED_SHARDS)
def _mapped(path: Path, size: int, changed_ns: int) -> NDArray[np.float16]:
    """Return a whole shard as float16. Each holds an open file, so the least recently used are dropped."""
    # Copy on write ("c"): torch asks for writable memory, and the file must not change.
    return np.memmap(path, np.uint8, "c", shape=(size,))[: size // 2 * 2].view("<f2")


@dataclass(frozen=True)
class _Shard:
    """One file, and where each of its chunks begins, counted in float16 values; -1 for a missing chunk."""

    path: Path
    size: int
    changed_ns: int
    starts: tuple[int, ...]

    def chunk(self, number: int, entries: int) -> NDArray[np.float16]:
        """Return chunk `number`, which has `entries` values, as a flat array."""
        start = self.starts[number]
        return _mapped(self.path, self.size, self.changed_ns)[start : start + entries]


@final
class MappedFeatures:
    """The readable rows of one slide's features, in the order of the tiles.

    `blocks` yields them as float16 arrays, which are views of the file if all rows are readable. Raises
    StoreError if a file is absent, damaged or of another layout.
    """

    def __init__(self, array: Path, readable: NDArray[np.bool_]) -> None:
        meta = read_plain_json(array / "zarr.json", "make the features again")
        self.rows_stored, self.dim = (int(n) for n in meta["shape"])
        limits.ROWS.check(self.rows_stored, str(array), StoreError)
        limits.ARRAY_BYTES.check(self.rows_stored * self.dim * 2, str(array), StoreError)
        self._chunk, shard = _layout(meta, array)
        limits.ROWS.check(max(shard, self._chunk), str(array), StoreError)
        self._per_shard = shard // self._chunk
        count = -(-self.rows_stored // shard)
        self._shards = [self._read_index(array / "c" / str(number) / "0") for number in range(count)]
        self._index = None if readable.all() else np.flatnonzero(readable)

    def __len__(self) -> int:
        return self.rows_stored if self._index is None else len(self._index)

    def _read_index(self, path: Path) -> _Shard:
        expected, chunks = self._chunk * self.dim * 2, self._per_shard
        try:
            stat = path.stat()
            end = stat.st_size - 16 * chunks - CHECKSUM_BYTES
            places = np.fromfile(path, "<u8", 2 * chunks, offset=max(end, 0)).reshape(-1, 2).tolist()
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}): make the features again") from error
        for offset, nbytes in places:
            if offset != MISSING and (nbytes != expected or offset + nbytes > end or offset % 2):
                raise StoreError(
                    f"{path}: {nbytes} bytes at {offset}, expected {expected}: make the features again"
                )
        starts = tuple(offset // 2 if offset != MISSING else -1 for offset, _ in places)
        return _Shard(path, stat.st_size, stat.st_mtime_ns, starts)

    def _rows(self, number: int) -> NDArray[np.float16]:
        """Return chunk `number` (rows of a chunk, D); the last chunk has more rows than are stored."""
        shard = self._shards[number // self._per_shard]
        return shard.chunk(number % self._per_shard, self._chunk * self.dim).reshape(self._chunk, self.dim)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.float16]]:
        """Yield rows `start` to `stop` in order, as arrays (n, D) of at most one chunk."""
        stop = len(self) if stop is None else min(stop, len(self))
        if self._index is not None:
            rows = self._index[start:stop]
            for number in np.unique(rows // self._chunk):
                yield self._rows(number)[rows[rows // self._chunk == number] - number * self._chunk]
            return
        for number in range(start // self._chunk, -(-stop // self._chunk)):
            first = number * self._chunk
            yield self._rows(number)[max(start - first, 0) : min(stop - first, self._chunk)]


def _layout(meta: dict[str, Any], array: Path) -> tuple[int, int]:
    """Return the rows of a chunk and of a shard.

    Raises StoreError for a layout that this version never writes.
    """
    shard = int(meta["chunk_grid"]["configuration"]["chunk_shape"][0])
    codec = meta["codecs"][0]
    inner = codec.get("configuration", {})
    plain = codec["name"] == "sharding_indexed" and [c["name"] for c in inner["codecs"]] == ["bytes"]
    if not plain or meta["data_type"] != "float16" or inner.get("index_location", "end") != "end":
        raise StoreError(f"{array} is not stored as raw float16 in shards: make the features again")
    return int(inner["chunk_shape"][0]), shard
