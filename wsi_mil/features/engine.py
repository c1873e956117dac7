"""Extraction of features: threads read tiles while the encoder works and another thread writes.

A batch may hold tiles of several slides. Memory does not grow with the size of a slide.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders import Encoder, EncoderSpec
from wsi_mil.encoders.base import to_device
from wsi_mil.encoders.views import Colours
from wsi_mil.errors import SlideError
from wsi_mil.execution.activity import activities, activity
from wsi_mil.features.store import SlideStore
from wsi_mil.features.stored import FeatureOrigin
from wsi_mil.features.stream import Piece, SlideFeed, find_colours, stream_batches
from wsi_mil.features.writing import FeatureWriter
from wsi_mil.io.files import digest_bytes
from wsi_mil.slides import SlideReader
from wsi_mil.tiles import TileReader

COMPUTING, WRITING = "computing features", "writing features"


@dataclass(frozen=True)
class ExtractionReport:
    """Number of tiles of a slide, how many of them could not be read, and the digest of what was written."""

    tiles: int
    unreadable: int
    digest: str


def encode_tiles(
    reader: SlideReader,
    table: TileTable,
    encoder: Encoder,
    *,
    batch_size: int = 64,
    threads: int = 2,
    colours: Colours | None = None,
) -> FeatureTable:
    """Return in memory the features that `extract_features` would store. Unreadable tiles have zeros.

    `colours`: the colour changes of the whole slide, if `table` is a part of it; by default they are found in
    the tiles of `table`.
    """
    features = np.zeros((len(table), encoder.dim), np.float16)
    readable = np.zeros(len(table), np.bool_)
    tiles = TileReader(reader, table)
    colours = find_colours(encoder.view, tiles) if colours is None else colours
    for batch in tiles.batches(batch_size, threads):
        rows = slice(batch.start, batch.start + len(batch.pixels))
        with activity(table.slide_id, COMPUTING):
            pixels = encoder.view(
                to_device(torch.from_numpy(batch.pixels), encoder.device), [colours] * len(batch.pixels)
            )
            features[rows] = encoder.encode(pixels).cpu().numpy()
        readable[rows] = batch.readable
    features[~readable] = 0
    return FeatureTable(
        slide_id=table.slide_id,
        encoder=str(encoder.identity["name"]),
        encoder_digest=encoder.digest,
        tiles_digest=table.digest(),
        mpp=table.spec.mpp,
        features=features,
        coords=table.coords,
        readable=readable,
        digest=digest_bytes(features.tobytes(), readable.tobytes()),
    )


def extract_features(
    reader: SlideReader, store: SlideStore, encoder: Encoder, spec: EncoderSpec, *, threads: int = 2
) -> ExtractionReport:
    """Encode every tile of the store's table, write the features, and return how many tiles were read.

    Tiles that cannot be read are counted and flagged. Raises SlideError if they are more than the fraction
    `spec.max_unreadable`.
    """
    source = SlideToExtract(
        SlideFeed(store.read_tiles(), lambda: reader, close=False, view=encoder.view), store
    )
    if len(source.feed.table) == 0:
        found: ExtractionReport | Exception = _Writing(source, encoder, spec).finish()
    else:
        [(_, found)] = extract_slides([source], encoder, spec, threads=threads)
    if isinstance(found, Exception):
        raise found
    return found


Done = tuple[str, ExtractionReport | Exception]


@dataclass(frozen=True)
class SlideToExtract:
    """Where a slide's tiles come from and where its features go."""

    feed: SlideFeed
    store: SlideStore


def extract_slides(
    slides: Iterable[SlideToExtract], encoder: Encoder, spec: EncoderSpec, *, threads: int = 2
) -> Iterator[Done]:
    """Yield (slide id, report or error) of every slide that has tiles, as soon as it is done.

    The feeds must have the view of the encoder. An error of one slide (its file, a full disk, values beyond
    float16) does not stop the others; an error of the encoder is raised.
    """
    sources: dict[int, SlideToExtract] = {}

    def feeds() -> Iterator[SlideFeed]:
        for slide in slides:
            sources[id(slide.feed)] = slide
            yield slide.feed

    writings: dict[int, _Writing] = {}
    pending: Future[list[Done]] | None = None

    def write(encoded: Tensor, readable: np.ndarray, pieces: list[Piece]) -> list[Done]:
        done = []
        with activities((piece.feed.slide_id for piece in pieces), COMPUTING):
            rows = encoded.cpu().numpy()  # waits for the GPU, which already has the next batch
        for piece in pieces:
            key = id(piece.feed)
            with activity(piece.feed.slide_id, WRITING):
                if key not in writings:
                    writings[key] = _Writing(sources[key], encoder, spec)
                part = slice(piece.place, piece.place + piece.stop - piece.start)
                writings[key].append(rows[part], readable[part])
                if piece.stop == len(piece.feed.table):
                    done.append((piece.feed.slide_id, writings.pop(key).finish()))
                    del sources[key]
        return done

    with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
        try:
            for batch in stream_batches(feeds(), spec.batch_size, threads):
                with activities((piece.feed.slide_id for piece in batch.pieces), COMPUTING):
                    pixels = to_device(torch.from_numpy(batch.pixels), encoder.device)
                    encoded = encoder.encode(encoder.view(pixels, batch.colours()))
                if pending is not None:
                    yield from pending.result()
                pending = pool.submit(write, encoded, batch.readable.copy(), list(batch.pieces))
            if pending is not None:
                yield from pending.result()
        finally:
            pool.shutdown(wait=True)
            for writing in writings.values():
                writing.abandon()


@final
class _Writing:
    """Writes the features of one slide: they are in the store when all are written, and absent otherwise."""

    def __init__(self, slide: SlideToExtract, encoder: Encoder, spec: EncoderSpec) -> None:
        self._slide, self._key = slide, spec.key
        self._max_unreadable = spec.max_unreadable
        self._unreadable = 0
        self._error: Exception | None = None
        origin = FeatureOrigin(
            encoder={**encoder.identity, "key": spec.key},
            encoder_digest=encoder.digest,
            spec=spec.settled.model_dump(mode="json"),
            colours=slide.feed.colours,
        )
        self._context: AbstractContextManager[FeatureWriter] = slide.store.write_features(
            spec.key, encoder.dim, origin
        )
        self._writer: FeatureWriter | None = None
        try:
            self._writer = self._context.__enter__()
        except Exception as error:
            self._error = error

    def append(self, rows: np.ndarray, readable: np.ndarray) -> None:
        """Write the next rows, or nothing more after an error."""
        self._unreadable += int((~readable).sum())
        if self._writer is None or self._error is not None:
            return
        try:
            self._writer.append(rows, readable)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._error = error
        try:
            self._remove(error)
        except Exception as named:  # an error of writing, which names the file and what it needs
            self._error = named

    def _remove(self, error: BaseException) -> None:
        """Let the store remove what was written so far. Raises another error if the store knows more."""
        self._context.__exit__(type(error), error, error.__traceback__)

    def abandon(self) -> None:
        """Remove what was written so far, because extraction was stopped."""
        if self._writer is not None and self._error is None:
            self._remove(KeyboardInterrupt())

    def finish(self) -> ExtractionReport | Exception:
        """Complete the features in the store; return the report, or the error for which there are none."""
        feed, tiles = self._slide.feed, len(self._slide.feed.table)
        if self._error is None and feed.error is not None:
            self._fail(feed.error)
        if self._error is None and self._unreadable > self._max_unreadable * max(tiles, 1):
            self._fail(
                SlideError(
                    f"slide {feed.slide_id!r}: {self._unreadable} of {tiles} tiles cannot be read (limit "
                    f"{self._max_unreadable:.0%}): the file is damaged, copy it again, or allow more by "
                    "encoder.max_unreadable"
                )
            )
        if self._error is None:
            try:
                self._context.__exit__(None, None, None)
            except Exception as error:
                self._error = error
        if self._error is not None:
            return self._error
        written = self._slide.store.stored_features(self._key)
        return ExtractionReport(tiles, self._unreadable, written.digest if written else "")
