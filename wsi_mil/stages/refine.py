"""refine: write pixel-level tumour maps of the suspicious tiles of every scored slide."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from wsi_mil.attention2d.backbones import build_backbone
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideInfo, SlideSource
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.base import pick_device
from wsi_mil.errors import DataError, ModelError
from wsi_mil.execution import ExecutionSpec, map_slides, run_jobs, stopped_at_the_end
from wsi_mil.execution.activity import activity
from wsi_mil.features.tiled import open_tiled
from wsi_mil.heatmaps.refined import RefinedHeader, RefinedMaps, read_refined_header, write_refined
from wsi_mil.io.files import digest_json
from wsi_mil.logs import logger
from wsi_mil.refine.network import tumour_maps
from wsi_mil.refine.refiner import Refiner, load_refiner
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.refine.tiles import suspicious_rows
from wsi_mil.run.context import RunContext
from wsi_mil.run.current import check_scores
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.killed import without_killers
from wsi_mil.run.recording import record_outcomes
from wsi_mil.scoring import load_model, read_slide_scores, read_tile_scores
from wsi_mil.scoring.files import tile_scores_header
from wsi_mil.stages.refiner_training import RefinerJob, has_refiner, refiner_job, train_refiner
from wsi_mil.tiles.windows import plan_windows, read_windows


@dataclass(frozen=True)
class RefineJob:
    """What `refine_one` needs, in values that pickle. `folder`: the folder of the model and its refiner.
    `threads`: of torch; 0: as many as it takes by itself. `needs_gpu`: whether Dask gives it only to workers
    with a GPU."""

    slide_id: str
    run: Path
    name: str
    source: SlideSource
    reader: str
    folder: Path
    model_digest: str
    refiner_digest: str
    device: str
    threads: int = 0
    needs_gpu: bool = False

    @property
    def stage(self) -> str:
        """The name of the stage in outcomes.csv."""
        return f"refine {self.name}"


def refuse_before_saving(spec: RefineSpec) -> None:
    """Raise DataError or ConfigError for settings that cannot work, before they are saved with the run."""
    if spec.polygons is not None and not spec.polygons.is_dir():
        raise DataError(f"refine.polygons: no folder {spec.polygons}")
    build_backbone(spec.backbone)


def run(context: RunContext, name: str) -> int:
    """Train a refiner for every fold of model `name`, and write the maps of the slides that the fold scored.

    Returns how many slides needed work.
    """
    config, worked = context.config, 0
    rows, _ = read_slide_scores(context.run.slide_scores(name))
    members, jobs = dict[int, list[str]](), list[RefinerJob]()
    for number, fold in enumerate(context.require_split().first_round):
        scored = [row.slide_id for row in rows if row.fold == number and row.part in config.refine.parts]
        if scored:
            members[number] = sorted(scored)
            model = load_model(context.run.model(name, number))
            jobs.append(refiner_job(context, name, number, fold, model))
    train_refiners(jobs, config.execution)
    for job in jobs:
        chosen = [context.source_of(slide_id) for slide_id in members[job.number]]
        worked += refine_slides(
            context.run, name, job.folder, job.model_digest, chosen, config.slides.reader, config.execution
        )
    return worked


def train_refiners(jobs: Sequence[RefinerJob], execution: ExecutionSpec) -> None:
    """Train the refiners that are missing or out of date: one after the other on this machine, side by side
    on Dask. Raises DataError if a fold has no tiles to learn from."""
    waiting = [job for job in jobs if not has_refiner(job)]
    one = execution if execution.backend == "dask" else execution.model_copy(update={"workers": 1})
    results = run_jobs(train_refiner, waiting, spec=one)
    with stopped_at_the_end(results):
        for job, text in zip(waiting, results, strict=True):
            logger().info("%s: %s", job.title, text)


def refine_slides(
    run: RunFolder,
    name: str,
    folder: Path,
    model_digest: str,
    sources: Sequence[SlideSource],
    reader: str,
    execution: ExecutionSpec,
) -> int:
    """Write the maps of scored slides; return how many slides needed work.

    folder: of the model and its refiner. On this machine: in the workers of the run, which share its threads;
    one process uses a whole GPU. On Dask each worker picks its device itself.
    """
    digests = model_digest, _loaded_anew(folder, torch.device("cpu")).digest
    if execution.backend == "dask":
        spec, place, threads = execution, execution.device, execution.threads
    else:
        device = pick_device(execution.device)
        workers = execution.resolved_workers() if device.type == "cpu" else 1
        spec = execution.on_this_machine(workers)
        place, threads = str(device), max(execution.resolved_threads() // workers, 1)
    gpu = execution.asks_for_gpu
    jobs = [
        RefineJob(s.slide_id, run.path, name, s, reader, folder, *digests, place, threads, gpu)
        for s in sources
    ]
    stage = f"refine {name}"
    work = partial(map_slides, refine_one, stage=stage, spec=spec)
    return record_outcomes(run, stage, without_killers(run, stage, jobs, work), len(jobs))


@lru_cache(maxsize=2)
def _loaded(folder: Path, digest: str, device: str) -> Refiner:
    """Return the refiner in a folder, loaded once per process and version (`digest`)."""
    return _loaded_anew(folder, pick_device(device))


def _loaded_anew(folder: Path, device: torch.device) -> Refiner:
    found = load_refiner(folder, device)
    if found is None:
        raise ModelError(f"no refiner in {folder}: run `wsi-mil refine` first")
    return found


def refine_one(job: RefineJob) -> Outcome:
    """Write the maps of one scored slide unless they are of this refiner, these features and these tiles
    already."""
    started = time.perf_counter()
    if job.threads:
        torch.set_num_threads(job.threads)
    run, refiner = RunFolder(job.run), _loaded(job.folder, job.refiner_digest, job.device)
    store, path = run.store(job.slide_id), run.refined(job.name, job.slide_id)
    table = store.read_tiles()
    scored = tile_scores_header(run.tile_scores(job.name, job.slide_id))
    features = scored.features_digest if scored is not None else ""
    wanted = RefinedHeader(job.slide_id, table.digest(), job.model_digest, refiner.digest, features)
    digest = digest_json(wanted.digests())
    if read_refined_header(path) == wanted:
        return Outcome(job.slide_id, job.stage, "done", "", {}, digest, reused=True)
    scores = read_tile_scores(run.tile_scores(job.name, job.slide_id))
    check_scores(scores, table)
    rows = suspicious_rows(table, scores, refiner.limits)
    kept, maps = _maps(job, refiner, store.read_info(), table, rows)
    with activity(job.slide_id, "writing maps"):
        write_refined(path, RefinedMaps(job.slide_id, kept, maps, **wanted.digests()))
    counts = {"refined": len(kept), "unreadable": len(rows) - len(kept)}
    return Outcome(job.slide_id, job.stage, "done", "", counts, digest, time.perf_counter() - started)


def _maps(
    job: RefineJob, refiner: Refiner, info: SlideInfo, table: TileTable, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the rows of a tile table could be read, (K,) int32, and their maps, (K, S, S) uint8."""
    spec = refiner.spec
    plan = plan_windows(info, table.spec, mpp=spec.mpp, map_mpp=spec.map_mpp, margin_um=spec.margin_um)
    maps, kept = [np.empty((0, plan.map_px, plan.map_px), np.uint8)], [np.empty(0, np.int32)]
    with open_tiled(job.source, job.reader, RunFolder(job.run).store(job.slide_id)) as slide:
        for start in range(0, len(rows), spec.batch):
            part = rows[start : start + spec.batch]
            with activity(job.slide_id, "reading tiles"):
                pixels, readable = read_windows(slide, table, part.tolist(), plan)
            if readable.any():
                with activity(job.slide_id, "computing maps"):
                    found = tumour_maps(refiner.network, pixels[readable], plan.map_px, plan.margin_px)
                maps.append(np.rint(found * 255).astype(np.uint8))
                kept.append(part[readable])
    return np.concatenate(kept), np.concatenate(maps)
