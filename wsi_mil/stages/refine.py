"""refine: from tiles that the slide model calls surely tumour or normal to pixel-level maps of suspicious tiles."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from wsi_mil.attention2d.backbones import build_backbone
from wsi_mil.bags import Fold, Split
from wsi_mil.bags.labels import LabelTable
from wsi_mil.contracts.labels import is_positive
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.qupath import BoundsMode
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import DataError, ModelError
from wsi_mil.evaluation import AnnotationFolder, read_annotations
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.heatmaps.refined import RefinedMaps, read_refined_header, write_refined
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.logs import logger
from wsi_mil.refine.network import NORMAL, TUMOUR, fit_tiles, tumour_maps
from wsi_mil.refine.refiner import Refiner, load_refiner, save_refiner
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.refine.tiles import (
    TrainingSlide,
    choose_tiles,
    find_limits,
    read_training_tiles,
    suspicious_rows,
)
from wsi_mil.run.current import check_scores, scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.recording import record_outcomes
from wsi_mil.scoring import TrainedModel, load_model, read_slide_scores, read_tile_scores, score_features
from wsi_mil.slides import open_slide
from wsi_mil.tiles.windows import plan_windows, read_windows

MADE_BY = 2
"""Changes when equal settings would give another refiner: those made before are trained again."""


@dataclass(frozen=True)
class RefineInputs:
    """What refining any model of a run takes."""

    run: RunFolder
    sources: dict[str, SlideSource]
    labels: LabelTable
    reader: str
    spec: RefineSpec
    device: torch.device
    bounds: BoundsMode


def refuse_before_saving(spec: RefineSpec) -> None:
    """Raise DataError or ConfigError for what cannot work, before it becomes the run's configuration."""
    if spec.polygons is not None and not spec.polygons.is_dir():
        raise DataError(f"refine.polygons: no folder {spec.polygons}")
    build_backbone(spec.backbone)


def run_refine(inputs: RefineInputs, name: str, split: Split) -> int:
    """Train a refiner for every fold of model `name` and write the maps of the slides that the fold scored; return how many slides needed work."""
    run, worked = inputs.run, 0
    rows, _ = read_slide_scores(run.slide_scores(name))
    for number, fold in enumerate(split.first_round):
        members = [row for row in rows if row.fold == number and row.part in inputs.spec.parts]
        if not members:
            continue
        model = load_model(run.model(name, number))
        refiner = _refiner(inputs, name, number, fold, model)
        ids = sorted(row.slide_id for row in members)
        sources = [inputs.sources[slide_id] for slide_id in ids]
        folder = run.model(name, number)
        worked += refine_slides(run, name, folder, model, refiner, sources, inputs.reader, inputs.device)
    return worked


def _refiner(inputs: RefineInputs, name: str, number: int, fold: Fold, model: TrainedModel) -> Refiner:
    folder = inputs.run.model(name, number)
    polygons = AnnotationFolder(inputs.spec.polygons, inputs.bounds) if inputs.spec.polygons else None
    outlines = {slide_id: polygons.find(slide_id) if polygons else None for slide_id in fold.train}
    made_from = digest_json(
        {
            "spec": inputs.spec.model_dump(mode="json", exclude={"parts", "polygons"}),
            "version": MADE_BY,
            "model": model.digest,
            "train": fold.digest("train"),
            "tiles": [inputs.run.store(slide_id).tiles_digest() for slide_id in fold.train],
            "outlines": {key: digest_file(path) for key, path in outlines.items() if path},
        }
    )
    if (found := load_refiner(folder, inputs.device, made_from)) is not None:
        return found
    slides = [
        slide
        for slide_id in fold.train
        if (slide := _training_slide(inputs, name, model, slide_id, outlines[slide_id]))
    ]
    limits = find_limits(slides, inputs.spec)
    chosen = choose_tiles(slides, limits, inputs.spec, np.random.default_rng(inputs.spec.seed))
    tiles = read_training_tiles(slides, chosen, inputs.reader, inputs.spec)
    logger().info(
        "refine %s, fold %d: %d tumour and %d normal tiles, %d of them with outlines",
        name,
        number,
        int(tiles.labels.sum()),
        int((1 - tiles.labels).sum()),
        int(tiles.has_mask.sum()),
    )
    network = fit_tiles(tiles, inputs.spec, inputs.device)
    counts = {
        "tumour": int(tiles.labels.sum()),
        "normal": int((1 - tiles.labels).sum()),
        "outlined": int(tiles.has_mask.sum()),
    }
    return save_refiner(folder, network, inputs.spec, limits, made_from, counts)


def _training_slide(
    inputs: RefineInputs, name: str, model: TrainedModel, slide_id: str, outline: Path | None
) -> TrainingSlide | None:
    """A labelled slide of the run with features; None for the others, which their own stages account for."""
    run, label = inputs.run, inputs.labels.rows.get(slide_id)
    store = run.store(slide_id)
    if label is None or label.label is None or slide_id not in inputs.sources:
        return None
    if store.stored_features(model.encoder.key) is None:
        return None
    info, table = store.read_info(), store.read_tiles()
    if scores_are_current(run, name, model, slide_id):
        scores = read_tile_scores(run.tile_scores(name, slide_id))
    else:  # of several folds, each scores its own test slides only
        scores = score_features(model, store.read_features(model.encoder.key))
    check_scores(scores, table)
    lesions = tuple(read_annotations(outline, slide_id, info, inputs.bounds)) if outline else None
    return TrainingSlide(
        inputs.sources[slide_id],
        info,
        table,
        TUMOUR if is_positive(label.label) else NORMAL,
        scores.suspicion(),
        lesions,
    )


@dataclass(frozen=True)
class RefineJob:
    """What `refine_one` needs, in values that pickle. `folder`: where the model and its refiner lie."""

    slide_id: str
    run: Path
    name: str
    source: SlideSource
    reader: str
    folder: Path
    model_digest: str
    refiner_digest: str
    device: str

    @property
    def stage(self) -> str:
        return f"refine {self.name}"

    @property
    def needs_gpu(self) -> bool:
        return self.device.startswith("cuda")


def refine_slides(
    run: RunFolder,
    name: str,
    folder: Path,
    model: TrainedModel,
    refiner: Refiner,
    sources: Sequence[SlideSource],
    reader: str,
    device: torch.device,
) -> int:
    """Write the maps of scored slides; return how many slides needed work. One process uses the whole device."""
    jobs = [
        RefineJob(s.slide_id, run.path, name, s, reader, folder, model.digest, refiner.digest, str(device))
        for s in sources
    ]
    outcomes = map_slides(refine_one, jobs, stage=f"refine {name}", spec=ExecutionSpec(workers=1))
    return record_outcomes(run, f"refine {name}", outcomes, len(jobs))


@lru_cache(maxsize=2)
def _loaded(folder: Path, digest: str, device: str) -> Refiner:
    """The refiner of a folder, loaded once per process and version."""
    found = load_refiner(folder, torch.device(device))
    if found is None:
        raise ModelError(f"no refiner in {folder}: run `wsi-mil refine` first")
    return found


def refine_one(job: RefineJob) -> Outcome:
    """Write the maps of one scored slide unless they are of this refiner, these scores and tiles already."""
    started, slide_id, source, stage = time.perf_counter(), job.slide_id, job.source, job.stage
    run, refiner = RunFolder(job.run), _loaded(job.folder, job.refiner_digest, job.device)
    spec = refiner.spec
    table, info = run.store(slide_id).read_tiles(), run.store(slide_id).read_info()
    path = run.refined(job.name, slide_id)
    wanted = {
        "tiles_digest": table.digest(),
        "model_digest": job.model_digest,
        "refiner_digest": refiner.digest,
    }
    digest = digest_json(wanted)
    header = read_refined_header(path)
    if header is not None and all(header[key] == value for key, value in wanted.items()):
        return Outcome(slide_id, stage, "done", "", {}, digest, reused=True)
    scores = read_tile_scores(run.tile_scores(job.name, slide_id))
    check_scores(scores, table)
    rows = suspicious_rows(table, scores.suspicion(), refiner.limits.suspicious)
    plan = plan_windows(info, table.spec, mpp=spec.mpp, map_mpp=spec.map_mpp, margin_um=spec.margin_um)
    maps, kept = [np.empty((0, plan.map_px, plan.map_px), np.uint8)], [np.empty(0, np.int32)]
    with open_slide(source.file, slide_id=slide_id, reader=job.reader, mpp=source.mpp) as slide:
        for start in range(0, len(rows), spec.batch):
            part = rows[start : start + spec.batch]
            pixels, readable = read_windows(slide, table, part.tolist(), plan)
            if readable.any():
                found = tumour_maps(refiner.network, pixels[readable], plan.map_px, plan.margin_px)
                maps.append(np.rint(found * 255).astype(np.uint8))
                kept.append(part[readable])
    refined = RefinedMaps(slide_id, np.concatenate(kept), np.concatenate(maps), **wanted)
    write_refined(path, refined)
    counts = {"refined": len(refined.rows), "unreadable": len(rows) - len(refined.rows)}
    return Outcome(slide_id, stage, "done", "", counts, digest, time.perf_counter() - started)
