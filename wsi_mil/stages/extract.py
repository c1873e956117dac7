"""extract: compute the features of every slide that has tiles."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.execution import ExecutionSpec, map_on_devices, map_slides
from wsi_mil.execution.guard import failed
from wsi_mil.features import SlideStore
from wsi_mil.features.stored import StoredFeatures
from wsi_mil.features.tiled import open_tiled, require_tiled
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext
from wsi_mil.run.killed import without_killers
from wsi_mil.run.recording import record_outcomes

if TYPE_CHECKING:
    from wsi_mil.encoders import Encoder
    from wsi_mil.features.engine import SlideToExtract


@dataclass(frozen=True)
class ExtractJob:
    """What `extract_one` needs, in values that pickle. `needs_gpu`: whether Dask gives it only to workers
    with a GPU."""

    slide_id: str
    source: SlideSource
    reader: str
    store: Path
    encoder: EncoderSpec
    device: str
    threads: int
    needs_gpu: bool = False

    @property
    def stage(self) -> str:
        """The name of the stage in outcomes.csv; each view has its own."""
        return f"extract view {self.encoder.view}" if self.encoder.view else "extract"


def extract_one(job: ExtractJob) -> Outcome:
    """Encode the tiles of one slide unless its store has the features already. Raises the error that stopped
    it."""
    [(_, found)] = _extract([job])
    if isinstance(found, Exception):
        raise found
    return found


def extract_many(jobs: Iterable[ExtractJob], stage: str = "extract") -> Iterator[Outcome]:
    """Yield the outcome of every slide. A batch may hold tiles of two slides, so that all batches are full.

    All jobs have the same encoder and device. A slide that fails gets a failed outcome; the others continue.
    """
    for slide_id, found in _extract(jobs):
        yield failed(slide_id, stage, found) if isinstance(found, Exception) else found


def extract_on(stage: str, jobs: Iterator[ExtractJob], device: str) -> Iterator[Outcome]:
    """Extract `jobs` on `device`, in the process that serves it."""
    import torch

    def placed() -> Iterator[ExtractJob]:
        for job in jobs:
            torch.set_num_threads(job.threads)
            yield replace(job, device=device)

    yield from extract_many(placed(), stage)


def _extract(jobs: Iterable[ExtractJob]) -> Iterator[tuple[str, Outcome | Exception]]:
    settled: list[tuple[str, Outcome | Exception]] = []
    started: dict[str, float] = {}
    waiting = iter(jobs)
    first = next(waiting, None)
    if first is None:
        return
    from wsi_mil.encoders.shared import shared_encoder

    encoder = shared_encoder(first.encoder, first.device)

    def sources() -> Iterator["SlideToExtract"]:
        for job in chain([first], waiting):
            started[job.slide_id] = time.perf_counter()
            try:
                source = _source(job, encoder)
            except Exception as error:
                settled.append((job.slide_id, error))
                continue
            if isinstance(source, Outcome):
                settled.append((job.slide_id, source))
            else:
                yield source

    from wsi_mil.features import extract_slides

    for slide_id, found in extract_slides(sources(), encoder, first.encoder, threads=first.threads):
        yield from settled
        settled.clear()
        if isinstance(found, Exception):
            yield slide_id, found
        else:
            counts = {"tiles": found.tiles, "unreadable": found.unreadable}
            seconds = time.perf_counter() - started[slide_id]
            yield slide_id, Outcome(slide_id, first.stage, "done", "", counts, found.digest, seconds)
    yield from settled


def _source(job: ExtractJob, encoder: "Encoder") -> "SlideToExtract | Outcome":
    """Return what the tiles of a slide are read from; or its outcome, if there is nothing to do."""
    from wsi_mil.features.engine import SlideToExtract
    from wsi_mil.features.stream import SlideFeed

    store = SlideStore(job.store, job.slide_id)
    tiles = store.read_tiles()
    if len(tiles) == 0:
        return Outcome(job.slide_id, job.stage, "empty", "no tiles", {"tiles": 0}, reused=True)
    found = _stored(store, job.encoder.key)
    if found and (found.encoder_digest, found.tiles_digest) == (encoder.digest, tiles.digest()):
        counts = {"tiles": len(tiles), "unreadable": found.unreadable_rows}
        return Outcome(job.slide_id, job.stage, "done", "", counts, found.digest, reused=True)
    require_tiled(job.source, store)  # before the encoder works
    opening = partial(open_tiled, job.source, job.reader, store)
    return SlideToExtract(SlideFeed(tiles, opening, view=encoder.view), store)


def _stored(store: SlideStore, key: str) -> StoredFeatures | None:
    """Return the description of a slide's features; None if there are none, or damaged ones."""
    try:
        return store.stored_features(key)
    except DamagedFileError as error:
        logger().warning("extract: features of slide %s are made again: %s", store.slide_id, error)
        return None


def run(context: RunContext) -> int:
    """Extract the features of all slides that have tiles, first the plain ones and then each view.

    Returns how many slides needed work, counted once per view. On this machine one process per device
    computes while threads read: a second copy of the network in another process would not be faster.
    """
    from wsi_mil.encoders.base import pick_devices

    config, execution = context.config, context.config.execution
    if config.imported:
        return 0
    devices = pick_devices(execution.devices)
    threads = execution.threads_of_each(len(devices))
    tiled = [s for s in context.slides if context.run.store(s.slide_id).tiles_digest() is not None]
    worked = 0
    for encoder in (config.encoder, *config.encoder.augmented):
        jobs = [_job(context, source, encoder, threads) for source in tiled]
        if jobs:
            stage = jobs[0].stage
            work = partial(_extract_jobs, stage, execution, devices)
            outcomes = without_killers(context.run, stage, jobs, work)
            worked += record_outcomes(context.run, stage, outcomes, len(jobs))
    return worked


def _job(context: RunContext, source: SlideSource, encoder: EncoderSpec, threads: int) -> ExtractJob:
    execution = context.config.execution
    return ExtractJob(
        slide_id=source.slide_id,
        source=source,
        reader=context.config.slides.reader,
        store=context.run.store(source.slide_id).path,
        encoder=encoder,
        device=execution.device,
        threads=threads,
        needs_gpu=execution.asks_for_gpu,
    )


def _extract_jobs(
    stage: str, execution: ExecutionSpec, devices: Sequence[str], jobs: Sequence[ExtractJob]
) -> Iterator[Outcome]:
    if execution.backend == "dask":
        return map_slides(extract_one, jobs, stage=stage, spec=execution)
    places = devices or [execution.device]
    return map_on_devices(partial(extract_on, stage), jobs, places, stage, execution.open_timeout_s)
