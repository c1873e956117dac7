"""Tiles of many slides as one stream of full batches: small slides keep the encoder busy, and the next slides open meanwhile.

Threads read (the slide libraries release the GIL) into buffers that are used again; whoever takes the batches encodes. Every batch has
the same number of rows, the last one empty ones at its end: an encoder's result for a tile then depends on the tile alone, not on its
neighbours in the batch, so serial runs, resumed runs and clusters give the same bytes (tests/features/test_stream.py).
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.views import SAMPLE_PIXELS, SAMPLE_TILES, Colours, View
from wsi_mil.errors import SlideError
from wsi_mil.slides import SlideReader
from wsi_mil.tiles import TileReader

AHEAD = 2
PLAIN = View()


def find_colours(view: View, tiles: TileReader) -> Colours:
    """Return what `view` changes in the colours of a slide, from a sample spread evenly over its tiles."""
    if not view.needs_sample:
        return ()
    last, size_px = len(tiles.table) - 1, tiles.table.spec.size_px
    rows = sorted({round(place) for place in np.linspace(0, last, min(SAMPLE_TILES, last + 1))})
    step = max(round((len(rows) * size_px**2 / SAMPLE_PIXELS) ** 0.5), 1)
    sample = []
    for row in rows:
        with suppress(SlideError):
            sample.append(tiles.read(row)[::step, ::step].reshape(-1, 3))
    return view.colours(tiles.table.slide_id, np.concatenate([np.empty((0, 3), np.uint8), *sample]))


class SlideFeed:
    """One slide whose tiles are wanted: opened by the first thread that reads from it, closed after its last tile
    (unless `close` is false). `colours`: what `view` changes in this slide, known once it is open."""

    def __init__(
        self,
        table: TileTable,
        open_reader: Callable[[], SlideReader],
        close: bool = True,
        view: View = PLAIN,
    ) -> None:
        self.table = table
        self.colours: Colours = ()
        self._own = close
        self._view = view
        self.error: Exception | None = None
        self._open = open_reader
        self._reader: SlideReader | None = None
        self._left = len(table)
        self._lock = threading.Lock()

    @property
    def slide_id(self) -> str:
        return self.table.slide_id

    @property
    def finished(self) -> bool:
        return self._left == 0

    def read(self, start: int, stop: int, pixels: NDArray[np.uint8], readable: NDArray[np.bool_]) -> None:
        """Fill rows `start` to `stop` of the table into `pixels` (n, S, S, 3); tiles that the file does not give are flagged.

        A slide that cannot be opened has none, and says why in `error`.
        """
        reader = self._opened()
        tiles = TileReader(reader, self.table) if reader is not None else None
        for place, row in enumerate(range(start, stop)):
            try:
                if tiles is None:
                    raise SlideError(str(self.error))
                pixels[place] = tiles.read(row)
                readable[place] = True
            except SlideError:
                pixels[place] = 0
                readable[place] = False
        with self._lock:
            self._left -= stop - start
            if self._left == 0:
                self._close()

    def _opened(self) -> SlideReader | None:
        with self._lock:
            if self._reader is None and self.error is None:
                try:
                    self._reader = self._open()
                    self.colours = find_colours(self._view, TileReader(self._reader, self.table))
                except Exception as error:
                    self.error = error
            return self._reader

    def _close(self) -> None:
        if self._reader is not None and self._own:
            self._reader.close()
        self._reader = None

    def close(self) -> None:
        with self._lock:
            self._close()


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of a slide's table, at `place` in the batch."""

    feed: SlideFeed
    start: int
    stop: int
    place: int


@dataclass
class StreamBatch:
    """Pixels (B, S, S, 3) uint8 and which could be read; `pieces` say whose they are. Valid until the next batch is asked for."""

    pixels: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    pieces: list[Piece] = field(default_factory=list)

    def colours(self) -> list[Colours]:
        """What the view changes in the slide of each row; nothing in empty ones."""
        found: list[Colours] = [()] * len(self.pixels)
        for piece in self.pieces:
            found[piece.place : piece.place + piece.stop - piece.start] = [piece.feed.colours] * (
                piece.stop - piece.start
            )
        return found

    @property
    def filled(self) -> int:
        return self.pieces[-1].place + self.pieces[-1].stop - self.pieces[-1].start if self.pieces else 0

    def read(self) -> "StreamBatch":
        for piece in self.pieces:
            rows = slice(piece.place, piece.place + piece.stop - piece.start)
            piece.feed.read(piece.start, piece.stop, self.pixels[rows], self.readable[rows])
        self.pixels[self.filled :] = 0
        return self


def stream_batches(feeds: Iterable[SlideFeed], batch_size: int, threads: int = 2) -> Iterator[StreamBatch]:
    """Yield the tiles of all feeds in order, `batch_size` at a time; `threads` + 2 batches are in memory at any time.

    Feeds are taken from the iterable as they are needed. All tables must be of one tile size.
    """
    free: list[StreamBatch] = []
    waiting: list[Future[StreamBatch]] = []
    opened: list[SlideFeed] = []
    plans = _plan(feeds, batch_size, opened)
    with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="tiles") as pool:
        try:
            while True:
                while len(waiting) < threads + AHEAD and (pieces := next(plans, None)) is not None:
                    size = pieces[0].feed.table.spec.size_px
                    batch = (
                        free.pop()
                        if free
                        else StreamBatch(
                            np.zeros((batch_size, size, size, 3), np.uint8), np.zeros(batch_size, np.bool_)
                        )
                    )
                    if batch.pixels.shape[1] != size:
                        raise SlideError(
                            f"slide {pieces[0].feed.slide_id!r} has tiles of {size} px, those before it {batch.pixels.shape[1]} px: "
                            "run `wsi-mil tile` so that all slides have the same"
                        )
                    batch.pieces = pieces
                    waiting.append(pool.submit(batch.read))
                if not waiting:
                    return
                batch = waiting.pop(0).result()
                yield batch
                free.append(batch)
        finally:
            for future in waiting:
                future.cancel()
            pool.shutdown(wait=True)
            for feed in opened:
                feed.close()


def _plan(feeds: Iterable[SlideFeed], batch_size: int, opened: list[SlideFeed]) -> Iterator[list[Piece]]:
    """Cut the rows of all tables into batches."""
    pieces: list[Piece] = []
    place = 0
    for feed in feeds:
        opened[:] = [other for other in opened if not other.finished]
        opened.append(feed)
        start = 0
        while start < len(feed.table):
            stop = min(start + batch_size - place, len(feed.table))
            pieces.append(Piece(feed, start, stop, place))
            place += stop - start
            start = stop
            if place == batch_size:
                yield pieces
                pieces, place = [], 0
    if pieces:
        yield pieces
