"""The tiles of many slides as one sequence of full batches, so that small slides keep the encoder busy, too.

Threads read the tiles into buffers that are used again, while the caller encodes the batch before; the slide
libraries release the GIL. All batches have the same number of rows, and the last one ends with empty rows.
Matrix products of one shape give a tile the same features whatever the other rows hold, so runs on one
process, resumed runs and runs on a cluster write the same bytes (tests/features/test_stream.py).
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.views import SAMPLE_PIXELS, SAMPLE_TILES, Colours, View
from wsi_mil.errors import SlideError
from wsi_mil.execution.activity import activity
from wsi_mil.slides import SlideReader
from wsi_mil.tiles import TileReader

AHEAD = 2
"""Batches that are read in advance, beside one per thread."""
PLAIN = View()


def find_colours(view: View, tiles: TileReader) -> Colours:
    """Return the colour changes of a slide under `view`, found in a sample spread evenly over its tiles."""
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


@final
class SlideFeed:
    """One slide whose tiles are to be read.

    The first thread that reads from it opens it, and it is closed after its last tile unless `close` is
    false. `colours`: the colour changes of this slide under `view`, known when it is open. `error`: why it
    cannot be opened, or that its file was changed while it was read.
    """

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
        """Read tiles `start` to `stop` into `pixels` (n, S, S, 3), and into `readable` (n,) which succeeded.

        No tile of a slide that cannot be opened is readable; `error` is then the reason.
        """
        with activity(self.slide_id, "reading tiles"):
            self._read(start, stop, pixels, readable)

    def _read(self, start: int, stop: int, pixels: NDArray[np.uint8], readable: NDArray[np.bool_]) -> None:
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
                self._check()
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

    def _check(self) -> None:
        """Note as `error` that the slide is not what it was when it was opened."""
        if self._reader is not None:
            try:
                self._reader.check_unchanged()
            except SlideError as error:
                self.error = error

    def _close(self) -> None:
        if self._reader is not None and self._own:
            self._reader.close()
        self._reader = None

    def close(self) -> None:
        """Close the slide, unless it belongs to the caller."""
        with self._lock:
            self._close()


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of a slide's table, which begin at row `place` of the batch."""

    feed: SlideFeed
    start: int
    stop: int
    place: int


@dataclass
class StreamBatch:
    """Pixels (B, S, S, 3) uint8, which of them could be read, and the slides they belong to (`pieces`).

    The arrays are used again as soon as the next batch is asked for.
    """

    pixels: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    pieces: list[Piece] = field(default_factory=list)

    def colours(self) -> list[Colours]:
        """Return for each row the colour changes of its slide; none for empty rows."""
        found: list[Colours] = [()] * len(self.pixels)
        for piece in self.pieces:
            count = piece.stop - piece.start
            found[piece.place : piece.place + count] = [piece.feed.colours] * count
        return found

    @property
    def filled(self) -> int:
        """How many rows hold a tile; the others are empty."""
        return self.pieces[-1].place + self.pieces[-1].stop - self.pieces[-1].start if self.pieces else 0

    def read(self) -> "StreamBatch":
        """Read the tiles of all pieces, and return this batch."""
        for piece in self.pieces:
            rows = slice(piece.place, piece.place + piece.stop - piece.start)
            piece.feed.read(piece.start, piece.stop, self.pixels[rows], self.readable[rows])
        self.pixels[self.filled :] = 0
        return self


def stream_batches(feeds: Iterable[SlideFeed], batch_size: int, threads: int = 2) -> Iterator[StreamBatch]:
    """Yield the tiles of all feeds in order, `batch_size` at a time.

    At most `threads` + 3 batches are in memory: those that are read in advance and the one that the caller
    has. Feeds are taken from the iterable as they are needed. Raises SlideError if two tables have different
    tile sizes.
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
                    batch = free.pop() if free else _empty_batch(batch_size, size)
                    if batch.pixels.shape[1] != size:
                        raise SlideError(
                            f"slide {pieces[0].feed.slide_id!r} has tiles of {size} px, those before it "
                            f"{batch.pixels.shape[1]} px: run `wsi-mil tile` so that all slides have the same"
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


def _empty_batch(batch_size: int, size_px: int) -> StreamBatch:
    """Return a batch of tiles of side `size_px` with new memory."""
    pixels = np.zeros((batch_size, size_px, size_px, 3), np.uint8)
    return StreamBatch(pixels, np.zeros(batch_size, np.bool_))


def _plan(feeds: Iterable[SlideFeed], batch_size: int, opened: list[SlideFeed]) -> Iterator[list[Piece]]:
    """Yield the pieces of each batch; `opened` holds the feeds that may be open."""
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
