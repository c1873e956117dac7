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
from wsi_mil.features.store import DAMAGED
from wsi_mil.features.stored import StoredFeatures
from wsi_mil.features.tiled import open_tiled, require_tiled
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.killed import without_killers
from wsi_mil.run.recording import record_outcomes
from wsi_mil.run.states import digest_of_states, file_state, without_unchanged

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
        return stage_of(self.encoder)


def stage_of(encoder: EncoderSpec) -> str:
    """Return the name of the stage in outcomes.csv."""
    return f"extract view {encoder.view}" if encoder.view else "extract"


def features_state(store: str | Path, key: str, encoder_digest: str) -> str:
    """Return the digest of the encoder and of the state of a slide's tiles and features (`run.states`)."""
    folder = f"{store}/features/{key}"
    read = [file_state(f"{store}/tiles/zarr.json"), file_state(f"{folder}/{DAMAGED}")]
    return digest_of_states([key, encoder_digest], read, [file_state(f"{folder}/zarr.json")])


def empty_state(store: str | Path) -> str:
    """Return the digest of the state of a slide without tiles."""
    return digest_of_states(["no tiles"], [], [file_state(f"{store}/tiles/zarr.json")])


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
    started: dict[str, tuple[ExtractJob, float]] = {}
    waiting = iter(jobs)
    first = next(waiting, None)
    if first is None:
        return
    from wsi_mil.encoders.shared import shared_encoder

    encoder = shared_encoder(first.encoder, first.device)

    def sources() -> Iterator["SlideToExtract"]:
        for job in chain([first], waiting):
            started[job.slide_id] = job, time.perf_counter()
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
            job, since = started[slide_id]
            seconds = time.perf_counter() - since
            state = features_state(job.store, job.encoder.key, encoder.digest)
            done = Outcome(slide_id, first.stage, "done", "", counts, found.digest, seconds, state=state)
            yield slide_id, done
    yield from settled


def _source(job: ExtractJob, encoder: "Encoder") -> "SlideToExtract | Outcome":
    """Return what the tiles of a slide are read from; or its outcome, if there is nothing to do."""
    from wsi_mil.features.engine import SlideToExtract
    from wsi_mil.features.stream import SlideFeed

    store = SlideStore(job.store, job.slide_id)
    header = store.tiles_header()
    if header is not None and header[1] == 0:
        state = empty_state(job.store)
        return Outcome(job.slide_id, job.stage, "empty", "no tiles", {"tiles": 0}, reused=True, state=state)
    found = _stored(store, job.encoder.key)
    if found and header and (found.encoder_digest, found.tiles_digest) == (encoder.digest, header[0]):
        counts = {"tiles": found.rows, "unreadable": found.unreadable_rows}
        state = features_state(job.store, job.encoder.key, encoder.digest)
        return Outcome(job.slide_id, job.stage, "done", "", counts, found.digest, reused=True, state=state)
    tiles = store.read_tiles()
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
    config, run = context.config, context.run
    if config.imported:
        return 0
    tiled = sum(row.status in ("done", "empty") for row in run.ledger.rows("tile"))
    worked = 0
    for encoder in (config.encoder, *config.encoder.augmented):
        state_of = partial(_state_now, run, encoder, _known_digest(encoder))
        work = partial(_extract_tiled, context, encoder)
        outcomes = without_unchanged(run, stage_of(encoder), context.slides, state_of, work)
        worked += record_outcomes(run, stage_of(encoder), outcomes, tiled or len(context.slides))
    return worked


def _extract_tiled(
    context: RunContext, encoder: EncoderSpec, slides: Sequence[SlideSource]
) -> Iterator[Outcome]:
    """Yield the outcomes of those of `slides` that have tiles."""
    tiled = [slide for slide in slides if context.run.store(slide.slide_id).tiles_digest() is not None]
    if not tiled:
        return
    from wsi_mil.encoders.base import pick_devices

    execution = context.config.execution
    devices = pick_devices(execution.devices)
    threads = execution.threads_of_each(len(devices))
    jobs = [_job(context, slide, encoder, threads) for slide in tiled]
    work = partial(_extract_jobs, stage_of(encoder), execution, devices)
    yield from without_killers(context.run, stage_of(encoder), jobs, work)


def _known_digest(encoder: EncoderSpec) -> str:
    """Return the digest of an encoder that has no weights; "" for others, which only workers load."""
    if encoder.name != "texture":
        return ""
    from wsi_mil.encoders.shared import shared_encoder

    return shared_encoder(encoder, "cpu").digest


def _state_now(run: RunFolder, encoder: EncoderSpec, digest: str, source: SlideSource) -> str:
    store, known = f"{run.path}/slides/{source.slide_id}.zarr", run.ledger.get(source.slide_id, "tile")
    if known is not None and known.status == "empty":
        return empty_state(store)
    return features_state(store, encoder.key, digest) if digest else ""


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
