"""Features on their way to disk: rows in order, shard by shard, and their digest."""

import hashlib
from collections.abc import Iterable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from wsi_mil.errors import StoreError

CHUNK_ROWS = 2048
SHARD_ROWS = 8 * CHUNK_ROWS


def digest_blocks(blocks: Iterable[NDArray[np.float16]], nbytes: int, readable: NDArray[np.bool_]) -> str:
    """Return the digest of features whose rows come in blocks: the same as of the whole array.

    `nbytes`: size of all blocks together. `readable`: (N,) which rows could be read.
    """
    found = hashlib.sha256(nbytes.to_bytes(8, "little"))
    for block in blocks:
        found.update(np.ascontiguousarray(block).data)
    flags = readable.tobytes()
    found.update(len(flags).to_bytes(8, "little"))
    found.update(flags)
    return found.hexdigest()[:16]


def feature_bytes(rows: int, dim: int) -> int:
    """Return how many bytes the arrays of (rows, dim) features take on disk."""
    return rows * (2 * dim + 1)


@final
class FeatureWriter:
    """Writes feature rows in order, shard by shard: at most one shard of rows is in memory."""

    def __init__(self, group: Any, rows: int, dim: int) -> None:
        chunk = min(CHUNK_ROWS, max(rows, 1))
        shard = chunk * min(SHARD_ROWS // CHUNK_ROWS, -(-max(rows, 1) // chunk))
        self._features = group.create_array(
            "features",
            shape=(rows, dim),
            dtype="float16",
            chunks=(chunk, dim),
            shards=(shard, dim),
            compressors=None,
            config={"write_empty_chunks": True},  # MappedFeatures needs every chunk, also one of zeros
        )
        self._readable = group.create_array(
            "readable", shape=(rows,), dtype="bool", chunks=(max(rows, 1),), compressors=None
        )
        self._rows = rows
        self._buffer = np.empty((min(shard, max(rows, 1)), dim), np.float16)
        self._flags = np.zeros(rows, np.bool_)
        self._filled = self._written = 0
        self._hash = hashlib.sha256()
        self._hash.update((rows * dim * 2).to_bytes(8, "little"))

    def append(self, features: NDArray[np.floating], readable: NDArray[np.bool_]) -> None:
        """Add the next rows (n, D); rows that are not readable are stored as zeros.

        Raises StoreError if a value is not finite or does not fit float16.
        """
        with np.errstate(over="ignore"):
            rows = np.where(readable[:, None], features, 0).astype(np.float16)
        if not np.isfinite(rows).all():
            raise StoreError(
                "features hold NaN, infinity or values beyond float16 (largest "
                f"{np.nanmax(np.abs(features)):.3g}): the encoder or its precision is at fault"
            )
        start = self._written + self._filled
        self._flags[start : start + len(rows)] = readable
        while len(rows):
            taken = min(len(rows), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + taken] = rows[:taken]
            self._filled += taken
            rows = rows[taken:]
            if self._filled == len(self._buffer):
                self._flush()

    def _flush(self) -> None:
        if self._filled:
            block = self._buffer[: self._filled]
            self._features[self._written : self._written + self._filled] = block
            self._hash.update(block.tobytes())
            self._written += self._filled
            self._filled = 0

    @property
    def readable_rows(self) -> int:
        """How many of the rows so far could be read."""
        return int(self._flags.sum())

    def finish(self) -> str:
        """Write the last rows and return the digest. Raises StoreError if rows are missing."""
        self._flush()
        if self._written != self._rows:
            raise StoreError(f"{self._written} of {self._rows} feature rows were written")
        if self._rows:
            self._readable[:] = self._flags
        flags = self._flags.tobytes()
        self._hash.update(len(flags).to_bytes(8, "little"))
        self._hash.update(flags)
        return self._hash.hexdigest()[:16]
