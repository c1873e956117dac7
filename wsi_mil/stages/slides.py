"""tile and extract: the per-slide functions that the serial run and every worker call."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.qupath import QuPathSpec
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import DataError
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.execution.devices import map_on_devices
from wsi_mil.execution.mapping import reason_of
from wsi_mil.features import SlideStore
from wsi_mil.files import digest_json, fingerprint, write_aside
from wsi_mil.logs import logger, progress
from wsi_mil.slides import open_slide, read_scaled
from wsi_mil.stages.run_folder import RunFolder, SlideSource
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, draw_preview, find_tissue, read_tissue, write_tissue
from wsi_mil.tissue.files import tissue_digest

if TYPE_CHECKING:
    from wsi_mil.encoders import Encoder
    from wsi_mil.features.engine import SlideToExtract

PREVIEW_PX = 900
SAVE_SECONDS = 2.0


@dataclass(frozen=True)
class TileJob:
    """What `tile_one` needs, in values that pickle."""

    slide_id: str
    source: SlideSource
    reader: str
    run: Path
    tissue: TissueSpec
    tiles: TileSpec
    qupath: QuPathSpec


def tile_one(job: TileJob) -> Outcome:
    """Find the tissue (or read the user's), lay the lattice, write table, outline and preview. A pure function of the
    job and the files that it names."""
    started = time.perf_counter()
    run = RunFolder(job.run)
    store, outline = run.store(job.slide_id), run.tissue(job.slide_id)
    with open_slide(job.source.file, slide_id=job.slide_id, reader=job.reader, mpp=job.source.mpp) as slide:
        info = slide.info
        tissue = read_tissue(outline, info, job.tissue, job.qupath)
        if tissue is None:
            write_tissue(outline, find_tissue(slide, job.tissue), info, job.tissue, job.qupath)
            tissue = read_tissue(outline, info, job.tissue, job.qupath)
            if tissue is None:
                raise DataError(f"{outline} does not read back as it was written")
        source = fingerprint(job.source.file)
        made_from = digest_json(
            {
                "levels": info.level_sizes_px,
                "mpp": [info.mpp_x, info.mpp_y],
                "source": source,
                "tissue": tissue_digest(tissue),
                "tiles": job.tiles.digest(),
            }
        )
        preview = run.preview(job.slide_id)
        reused = store.made_from() == made_from and preview.exists()
        if reused:
            table = store.read_tiles()
        else:
            table = tile_slide(info, tissue, job.tiles)
            longer = max(info.width_px * info.mpp_x, info.height_px * info.mpp_y)
            thumbnail = read_scaled(slide, max(longer / PREVIEW_PX, info.mpp))
            size0 = (table.plan.tile_width0_px, table.plan.tile_height0_px)
            picture = draw_preview(thumbnail, info, tissue, table.coords, size0)
            with write_aside(preview) as aside:
                _, encoded = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
                aside.write_bytes(encoded.tobytes())
            store.write_tiles(table, info, made_from, source)
    area_um2 = tissue.polygons.area * info.mpp_x * info.mpp_y
    reason = "" if len(table) else ("no tissue" if tissue.polygons.is_empty else "no tile with enough tissue")
    return Outcome(
        job.slide_id,
        "tile",
        "done" if len(table) else "empty",
        reason,
        {"tiles": len(table), "tissue_um2": round(area_um2)},
        table.digest(),
        time.perf_counter() - started,
        reused,
    )


@dataclass(frozen=True)
class ExtractJob:
    """What `extract_one` needs, in values that pickle."""

    slide_id: str
    source: SlideSource
    reader: str
    store: Path
    encoder: EncoderSpec
    device: str
    threads: int

    @property
    def stage(self) -> str:
        return f"extract view {self.encoder.view}" if self.encoder.view else "extract"


@lru_cache(maxsize=2)
def shared_encoder(spec: EncoderSpec, device: str) -> "Encoder":
    """Return one encoder per process, however many slides it serves; views share the network of the plain one."""
    from wsi_mil.encoders import build_encoder
    from wsi_mil.encoders.views import View

    plain = spec.model_copy(update={"stain": "none", "view": 0, "views": 0})
    return (
        build_encoder(spec, device) if spec == plain else shared_encoder(plain, device).seen_as(View.of(spec))
    )


def extract_one(job: ExtractJob) -> Outcome:
    """Encode one slide's tiles unless its store holds them already. Raises what stopped it."""
    [(_, found)] = _extract([job])
    if isinstance(found, Exception):
        raise found
    return found


def extract_many(jobs: Iterable[ExtractJob], stage: str = "extract") -> Iterator[Outcome]:
    """Yield the outcome of every slide, the tiles of one after the other going through the encoder in full batches.

    Jobs are of one encoder and device. What stops one slide is its outcome and leaves the others alone.
    """
    for slide_id, found in _extract(jobs):
        yield Outcome(slide_id, stage, "failed", reason_of(found)) if isinstance(found, Exception) else found


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
    """Where the slide's tiles come from; or its outcome, if there is nothing to do."""
    from wsi_mil.features.engine import SlideToExtract
    from wsi_mil.features.stream import SlideFeed

    store = SlideStore(job.store, job.slide_id)
    tiles = store.read_tiles()
    if len(tiles) == 0:
        return Outcome(job.slide_id, job.stage, "empty", "no tiles", {"tiles": 0}, reused=True)
    found = store.features_attributes(job.encoder.key)
    if found and (found["encoder_digest"], found["tiles_digest"]) == (encoder.digest, tiles.digest()):
        counts = {"tiles": len(tiles), "unreadable": int(found["rows"] - found["readable_rows"])}
        return Outcome(job.slide_id, job.stage, "done", "", counts, found["digest"], reused=True)
    if store.source() not in (None, fingerprint(job.source.file)):
        raise DataError(
            f"slide {job.slide_id!r}: its file is not the one that was tiled: run `wsi-mil tile` first"
        )
    opening = partial(
        open_slide, job.source.file, slide_id=job.slide_id, reader=job.reader, mpp=job.source.mpp
    )
    return SlideToExtract(SlideFeed(tiles, opening, view=encoder.view), store)


def run_tile(
    run: RunFolder,
    slides: Sequence[SlideSource],
    reader: str,
    tissue: TissueSpec,
    tiles: TileSpec,
    qupath: QuPathSpec,
    execution: ExecutionSpec,
) -> int:
    """Tile all slides; return how many needed work."""
    jobs = [TileJob(s.slide_id, s, reader, run.path, tissue, tiles, qupath) for s in slides]
    return account(run, "tile", map_slides(tile_one, jobs, stage="tile", spec=execution), len(jobs))


def run_extract(
    run: RunFolder, slides: Sequence[SlideSource], reader: str, encoder: EncoderSpec, execution: ExecutionSpec
) -> int:
    """Extract features of all slides that have tiles, the plain ones and then each view; return how many needed work.

    Locally, one process feeds the encoder of each device and the threads read: a second copy of the network would gain nothing.
    """
    import torch

    from wsi_mil.encoders.base import pick_devices

    devices = pick_devices(execution.devices)
    threads = max(execution.resolved_threads() // max(len(devices), 1), 1)
    torch.set_num_threads(threads)
    tiled = [s for s in slides if run.store(s.slide_id).tiles_digest() is not None]
    if tiled and execution.backend == "local" and not devices:
        shared_encoder(
            encoder, execution.device
        )  # an encoder that cannot be had is the run's error, not each slide's
    worked = 0
    for spec in (encoder, *encoder.augmented):
        jobs = [
            ExtractJob(s.slide_id, s, reader, run.store(s.slide_id).path, spec, execution.device, threads)
            for s in tiled
        ]
        if not jobs:
            break
        if execution.backend == "dask":
            outcomes = map_slides(extract_one, jobs, stage=jobs[0].stage, spec=execution)
        elif devices:
            outcomes = map_on_devices(partial(extract_on, jobs[0].stage), jobs, devices, jobs[0].stage)
        else:
            outcomes = extract_many(jobs, jobs[0].stage)
        worked += account(run, jobs[0].stage, outcomes, len(jobs))
    return worked


def account(run: RunFolder, stage: str, outcomes: Iterable[Outcome], total: int) -> int:
    """Write outcomes down as they come (every two seconds or more, so that a twentieth of the time goes into it at most, and at the
    end however it comes); return how many were not reused."""
    worked, saved, pause = 0, time.monotonic(), SAVE_SECONDS
    try:
        for outcome in progress(outcomes, total=total, label=stage):
            previous = run.ledger.get(outcome.slide_id, stage)
            if outcome.reused and previous is not None and previous.digest == outcome.digest:
                continue
            run.ledger.put(outcome)
            if time.monotonic() - saved > pause:
                started = time.monotonic()
                run.ledger.save()
                saved = time.monotonic()
                pause = max(SAVE_SECONDS, 20 * (saved - started))
            if not outcome.reused:
                worked += 1
            if outcome.status == "failed":
                logger().warning("%s: %s failed: %s", stage, outcome.slide_id, outcome.reason)
    finally:
        run.ledger.save()
    return worked


def each(label: str, items: Sequence[str], function: Callable[[str], Outcome], run: RunFolder) -> int:
    """Run `function` on every slide id here, with accounting: for the light stages."""
    from wsi_mil.execution.mapping import run_guarded

    @dataclass(frozen=True)
    class Named:
        slide_id: str

    outcomes = (run_guarded(lambda job: function(job.slide_id), label, Named(item)) for item in items)
    return account(run, label, outcomes, len(items))
