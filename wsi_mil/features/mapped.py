"""Stored features mapped into memory: the bytes of the file themselves, without a copy and without Zarr in between.

Our arrays are uncompressed, so a chunk of rows is a run of raw little-endian float16 in its shard, and the shard's index
(at its end: offset and size of every chunk, uint64) says where. Reading through Zarr costs several times as much.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import StoreError
from wsi_mil.files import read_json

MISSING = np.iinfo(np.uint64).max
CHECKSUM_BYTES = 4


class MappedFeatures:
    """The readable rows of one slide's features, in tile order.

    `blocks` yields them as float16 arrays (views of the file where all rows are readable).
    """

    def __init__(self, array: Path, readable: NDArray[np.bool_]) -> None:
        meta = read_json(array / "zarr.json")
        self.rows_stored, self.dim = (int(n) for n in meta["shape"])
        self._chunk, shard = _layout(meta, array)
        count = -(-self.rows_stored // self._chunk)
        per_shard = shard // self._chunk
        self._chunks = [c for s in range(-(-count // per_shard)) for c in self._map_shard(array, s, per_shard)][:count]
        self._index = None if readable.all() else np.flatnonzero(readable)

    def __len__(self) -> int:
        return self.rows_stored if self._index is None else len(self._index)

    def _map_shard(self, array: Path, number: int, chunks: int) -> list[NDArray[np.float16]]:
        path = array / "c" / str(number) / "0"
        index_bytes = 16 * chunks
        try:
            size = path.stat().st_size
            start = size - index_bytes - CHECKSUM_BYTES
            places = np.fromfile(path, "<u8", 2 * chunks, offset=start).reshape(-1, 2)
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}): extract the features again") from error
        expected = self._chunk * self.dim * 2
        found: list[NDArray[np.float16]] = []
        for offset, nbytes in places.tolist():
            if offset == MISSING:  # a chunk beyond the last row
                continue
            if nbytes != expected or offset + nbytes > start:
                raise StoreError(f"{path}: {nbytes} bytes at {offset}, expected {expected}: extract the features again")
            # copy on write: torch wants writable memory, and the file must not change
            found.append(np.memmap(path, "<f2", "c", offset, (self._chunk, self.dim)))
        return found

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.float16]]:
        """Yield rows `start` to `stop` in order, in pieces of at most a chunk."""
        stop = len(self) if stop is None else min(stop, len(self))
        if self._index is not None:
            rows = self._index[start:stop]
            for number in np.unique(rows // self._chunk):
                yield self._chunks[number][rows[rows // self._chunk == number] - number * self._chunk]
            return
        for number in range(start // self._chunk, -(-stop // self._chunk)):
            first = number * self._chunk
            yield self._chunks[number][max(start - first, 0) : min(stop - first, self._chunk)]


def _layout(meta: dict[str, Any], array: Path) -> tuple[int, int]:
    """Rows of a chunk and of a shard; raises StoreError unless the bytes lie as this version writes them."""
    shard = int(meta["chunk_grid"]["configuration"]["chunk_shape"][0])
    codec = meta["codecs"][0]
    inner = codec.get("configuration", {})
    plain = codec["name"] == "sharding_indexed" and [c["name"] for c in inner["codecs"]] == ["bytes"]
    if not plain or meta["data_type"] != "float16" or inner.get("index_location", "end") != "end":
        raise StoreError(f"{array} is not stored as raw float16 in shards: extract the features again")
    return int(inner["chunk_shape"][0]), shard
