"""The pixels of tiles, in batches. Tiles that cannot be read are flagged, never replaced by other pixels."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import SlideError
from wsi_mil.execution.activity import activity
from wsi_mil.slides import SlideReader
from wsi_mil.slides.scaled import resample


@dataclass(frozen=True)
class TileBatch:
    """Pixels (B, S, S, 3) uint8 of the tiles from row `start` on, and (B,) which of them could be read.

    The pixels of a tile that could not be read are 0.
    """

    start: int
    pixels: NDArray[np.uint8]
    readable: NDArray[np.bool_]


@final
class TileReader:
    """Reads the tiles of one table from one open slide, several batches in advance, in threads."""

    def __init__(self, reader: SlideReader, table: TileTable) -> None:
        self.reader = reader
        self.table = table

    def read(self, row: int) -> RGB:
        """Return tile `row` as (S, S, 3) uint8 at the requested mpp.

        Raises SlideError if it cannot be read.
        """
        plan, size = self.table.plan, self.table.spec.size_px
        x0_px, y0_px = (int(value) for value in self.table.coords[row])
        region = self.reader.read_region(x0_px, y0_px, plan.level, plan.read_width_px, plan.read_height_px)
        return resample(region, size, size)

    def _read_batch(self, start: int, stop: int) -> TileBatch:
        size = self.table.spec.size_px
        pixels = np.zeros((stop - start, size, size, 3), np.uint8)
        readable = np.ones(stop - start, np.bool_)
        with activity(self.table.slide_id, "reading tiles"):
            for i, row in enumerate(range(start, stop)):
                try:
                    pixels[i] = self.read(row)
                except SlideError:
                    readable[i] = False
        return TileBatch(start, pixels, readable)

    def batches(self, batch_size: int, threads: int = 2, ahead: int = 2) -> Iterator[TileBatch]:
        """Yield batches in the order of the rows; at most `threads + ahead` are read in advance."""
        starts = iter(range(0, len(self.table), batch_size))
        with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="tiles") as pool:
            waiting: list[Future[TileBatch]] = []
            try:
                while True:
                    while len(waiting) < threads + ahead and (start := next(starts, None)) is not None:
                        waiting.append(
                            pool.submit(self._read_batch, start, min(start + batch_size, len(self.table)))
                        )
                    if not waiting:
                        return
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()
