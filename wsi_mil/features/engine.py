"""Extraction: reading, preparing, encoding and writing overlap, and memory does not grow with the slide.

Threads read batches of uint8 tiles ahead (the slide libraries release the GIL); this thread encodes; one thread
writes. Between them stand queues of a few batches.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from wsi_mil.contracts.arrays import Float
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders import Encoder, EncoderSpec
from wsi_mil.errors import SlideError
from wsi_mil.features.store import SlideStore
from wsi_mil.files import digest_bytes
from wsi_mil.slides import SlideReader
from wsi_mil.tiles import TileReader

MAX_UNREADABLE_SHARE = 0.05


@dataclass(frozen=True)
class ExtractionReport:
    """How many tiles a slide gave, how many its file could not give, and the digest of what was written."""

    tiles: int
    unreadable: int
    digest: str


def encode_tiles(
    reader: SlideReader, table: TileTable, encoder: Encoder, *, batch_size: int = 64, threads: int = 2
) -> FeatureTable:
    """Return the features of a tile table, in memory: what `extract_features` would store, for notebooks."""
    features = np.zeros((len(table), encoder.dim), np.float16)
    readable = np.zeros(len(table), np.bool_)
    for batch in TileReader(reader, table).batches(batch_size, threads):
        rows = slice(batch.start, batch.start + len(batch.pixels))
        features[rows] = encoder.encode(torch.from_numpy(batch.pixels)).cpu().numpy()
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
    """Encode every tile of the store's table and write the features; return what was read.

    Tiles that the file does not give are counted and flagged; more than 5 % of them fail the slide (SlideError).
    """
    table = store.read_tiles()
    attributes = {
        "encoder": {**encoder.identity, "key": spec.key},
        "encoder_digest": encoder.digest,
        "spec": spec.model_dump(mode="json"),
    }
    unreadable = 0
    with (
        store.write_features(spec.key, encoder.dim, attributes) as writer,
        ThreadPoolExecutor(1, thread_name_prefix="write") as pool,
    ):
        pending: Future[None] | None = None
        for batch in TileReader(reader, table).batches(spec.batch_size, threads):
            encoded: Float = encoder.encode(torch.from_numpy(batch.pixels)).cpu().numpy()
            unreadable += int((~batch.readable).sum())
            if pending is not None:
                pending.result()
            pending = pool.submit(writer.append, encoded, batch.readable)
        if pending is not None:
            pending.result()
        if unreadable > MAX_UNREADABLE_SHARE * max(len(table), 1):
            raise SlideError(
                f"slide {store.slide_id!r}: {unreadable} of {len(table)} tiles cannot be read (limit "
                f"{MAX_UNREADABLE_SHARE:.0%}): the file is damaged, copy it again"
            )
    written = store.features_attributes(spec.key) or {}
    return ExtractionReport(len(table), unreadable, str(written.get("digest", "")))
