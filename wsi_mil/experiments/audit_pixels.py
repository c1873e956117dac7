"""The checks of a model audit that change pixels: tiles are painted, encoded and scored again.

A worker process reads, paints, encodes and scores: a slide that ends it, or fails, is left out by name.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from torch import Tensor

from wsi_mil.contracts.slide import SlideSource
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.shared import shared_encoder
from wsi_mil.evaluation import AnnotationRules
from wsi_mil.execution import read_slides
from wsi_mil.execution.activity import activity
from wsi_mil.execution.spec import available_cores
from wsi_mil.experiments.audited_slides import Audited, model_features, probability_of
from wsi_mil.experiments.poison_features import tiles_at
from wsi_mil.features import encode_tiles
from wsi_mil.features.tiled import open_tiled
from wsi_mil.logs import logger
from wsi_mil.robustness.audit.interventions import AuditedSlide, answer_of
from wsi_mil.robustness.audit.questions import Answer
from wsi_mil.robustness.poison.places import tile_boxes
from wsi_mil.robustness.poison.slide import poison_slide
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.slide_outlines import OutlineJob, outlined_lesions
from wsi_mil.scoring import TrainedModel, load_model
from wsi_mil.slides import SlideReader

COVERAGES = (0.05, 0.15, 0.3, 0.6)
GAINS = (0.7, 0.85, 1.15, 1.3)
SPECS = (
    *(("stain_normal", c, PoisonSpec(coverage=c)) for c in COVERAGES),
    *(("restain", g, PoisonSpec(kind="stain", stain_gains=(g, g), placement="anywhere")) for g in GAINS),
)
"""The name of the check, the dose on its x axis, and what is painted."""


@dataclass(frozen=True)
class PixelAnswers:
    """Answers by check and dose, and the slides that could not be read: slide id -> reason."""

    answers: dict[str, dict[float, list[Answer]]]
    skipped: dict[str, str]


@dataclass(frozen=True)
class PixelJob:
    """What `probabilities_of_pixels` needs, in values that pickle.

    suspicious: the readable tiles that must not change if the lesions are unknown, (N,). model: its folder.
    outlines: the file of the lesions; None where there is none, or none that can be read. device: as in the
    settings; the process that encodes resolves it. threads: of reading and torch; 0: as many as they take by
    themselves.
    """

    run: Path
    slide_id: str
    positive: bool
    suspicious: NDArray[np.bool_]
    source: SlideSource
    reader: str
    model: Path
    outlines: Path | None
    rules: AnnotationRules
    device: str
    threads: int
    needs_gpu: bool = False


def ask_of_pixels(context: RunContext, name: str, audited: Audited, count: int) -> PixelAnswers:
    """Return the answers of model `name` on changed pixels of at most `count` rightly called slides per
    class."""
    right = [slide for slide in audited.slides if slide.rightly_called]
    chosen = [s for label in (0, 1) for s in [r for r in right if r.label == label][:count]]
    execution = context.config.execution
    one = execution if execution.backend == "dask" else execution.model_copy(update={"workers": 1})
    jobs = [_job(context, name, audited, slide) for slide in chosen]
    probabilities, failed = read_slides(probabilities_of_pixels, jobs, stage="audit, pixels", spec=one)
    for slide_id, outcome in failed.items():
        logger().warning("audit: pixels of slide %s are not changed: %s", slide_id, outcome.reason)
    found: dict[str, dict[float, list[Answer]]] = {check: {} for check, _, _ in SPECS}
    for slide in chosen:
        for (check, x, _), probability in zip(SPECS, probabilities.get(slide.slide_id, ()), strict=False):
            found[check].setdefault(x, []).append(answer_of(slide, probability))
    return PixelAnswers(found, {slide_id: outcome.reason for slide_id, outcome in failed.items()})


def _job(context: RunContext, name: str, audited: Audited, slide: AuditedSlide) -> PixelJob:
    config, slide_id = context.config, slide.slide_id
    execution = config.execution
    return PixelJob(
        context.run.path,
        slide_id,
        bool(slide.label),
        slide.suspicious(),
        context.source_of(slide_id),
        config.slides.reader,
        context.run.model(name, audited.folds[slide_id]),
        audited.outlines.get(slide_id),
        config.annotations.rules if config.annotations else AnnotationRules(),
        execution.device,
        execution.threads if execution.backend == "dask" else execution.resolved_threads(),
        execution.asks_for_gpu,
    )


def probabilities_of_pixels(job: PixelJob) -> tuple[float, ...]:
    """Return the probability that its model gives to a slide after each change of `SPECS`."""
    if job.threads:
        torch.set_num_threads(job.threads)
    model = load_model(job.model)
    with open_tiled(job.source, job.reader, RunFolder(job.run).store(job.slide_id)) as reader:
        with activity(job.slide_id, "painting tiles"):
            found = [probability_of(model, _painted_features(job, model, reader, spec)) for *_, spec in SPECS]
        reader.check_unchanged()
    return tuple(found)


def _painted_features(job: PixelJob, model: TrainedModel, reader: SlideReader, spec: PoisonSpec) -> Tensor:
    """Return the slide's features (n, D) after painting; tiles without paint keep their features."""
    store = RunFolder(job.run).store(job.slide_id)
    table, features = store.read_tiles(), store.read_features(model.encoder.key)
    painted = poison_slide(reader, table, spec, _spared(job, table, features.readable))
    rows = np.flatnonzero(painted.plan.changed_tiles(table))
    if not len(rows):
        return model_features(model, features)
    part = encode_tiles(
        painted,
        tiles_at(table, rows),
        shared_encoder(model.encoder, job.device),
        batch_size=model.encoder.batch_size,
        threads=job.threads or available_cores(),
    )
    values, readable = features.features.copy(), features.readable.copy()
    values[rows], readable[rows] = part.features, part.readable
    return model_features(model, replace(features, features=values, readable=readable))


def _spared(job: PixelJob, table: TileTable, readable: NDArray[np.bool_]) -> BaseGeometry:
    """Return the region that must not change: the lesions, or if unknown the most suspicious tiles."""
    if job.outlines is not None:
        lesions = outlined_lesions(OutlineJob(job.slide_id, job.run, job.outlines, job.rules))
        return shapely.union_all([lesion.geometry for lesion in lesions])
    return shapely.union_all(tile_boxes(table)[np.flatnonzero(readable)[job.suspicious]])
