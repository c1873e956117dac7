"""Train the refiner of a fold: choose tiles that the slide model is sure of, read them, and fit a small
network. Worker processes read the outlines and tiles: a slide that cannot be read is left out by name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wsi_mil.bags import Fold
from wsi_mil.config.provenance import package_versions
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders.base import pick_device
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.evaluation import AnnotationFolder, AnnotationRules
from wsi_mil.execution import ExecutionSpec, read_slides
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.logs import logger
from wsi_mil.refine.network import NORMAL, TUMOUR, fit_tiles
from wsi_mil.refine.refiner import load_refiner, save_refiner
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.refine.tiles import (
    SlideTiles,
    TrainingSlide,
    choose_tiles,
    find_limits,
    join_tiles,
    read_tiles,
    tile_jobs,
)
from wsi_mil.run.context import RunContext
from wsi_mil.run.current import check_scores, scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import warn_of_left_out
from wsi_mil.run.slide_outlines import OutlineJob, found_lesions, outlined_lesions, read_outlines
from wsi_mil.scoring import TrainedModel, load_model, read_tile_scores, score_features
from wsi_mil.slides.state import slide_state

MOST_LEFT_OUT = 0.5
"""No refiner is trained if more than this fraction of the slides cannot be read."""
MADE_BY = 3
"""Changes when equal settings would give another refiner: those made before are trained again."""


@dataclass(frozen=True)
class LabelledSource:
    """A training slide: its file, `NORMAL` or `TUMOUR`, and the file that outlines its lesions, if any."""

    source: SlideSource
    kind: int
    outline: Path | None


@dataclass(frozen=True)
class RefinerJob:
    """Everything that a worker process needs to train the refiner of one fold of a model.

    without_file: labelled slides whose file is gone. model_digest: of the slide model. made_from: the digest
    of all that the refiner is made from. reading: of outlines and tiles, on the machine that trains. device:
    as in the settings; the process that trains resolves it.
    """

    run: Path
    name: str
    number: int
    slides: tuple[LabelledSource, ...]
    without_file: tuple[str, ...]
    spec: RefineSpec
    reader: str
    rules: AnnotationRules
    model_digest: str
    made_from: str
    reading: ExecutionSpec
    device: str
    needs_gpu: bool = False

    @property
    def title(self) -> str:
        return f"refine {self.name}, fold {self.number}"

    @property
    def folder(self) -> Path:
        """The folder of the slide model, where the refiner is saved, too."""
        return RunFolder(self.run).model(self.name, self.number)


def refiner_job(context: RunContext, name: str, number: int, fold: Fold, model: TrainedModel) -> RefinerJob:
    """Return the training of the refiner of fold `number` of model `name`. Slides without label are left
    out."""
    run, config = context.run, context.config
    spec, classes, execution = config.refine, config.slides.lesion_classes, config.execution
    outlines = _outlines(context, fold)
    made_from = digest_json(
        {
            **({"lesion_classes": classes} if classes else {}),
            "spec": spec.model_dump(mode="json", exclude={"parts", "polygons"}),
            "version": MADE_BY,
            "model": model.digest,
            "train": fold.digest("train"),
            "tiles": [run.store(slide_id).tiles_digest() for slide_id in fold.train],
            "outlines": {key: digest_file(path) for key, path in outlines.items() if path},
        }
    )
    rows = context.require_labels().rows
    labels = {s: row.label for s in fold.train if (row := rows.get(s)) is not None and row.label is not None}
    slides = tuple(
        LabelledSource(source, TUMOUR if model.task.is_positive(label) else NORMAL, outlines[slide_id])
        for slide_id, label in labels.items()
        if (source := context.sources.get(slide_id)) is not None
    )
    return RefinerJob(
        run.path,
        name,
        number,
        slides,
        tuple(slide_id for slide_id in labels if slide_id not in context.sources),
        spec,
        config.slides.reader,
        AnnotationRules(config.qupath.bounds, classes),
        model.digest,
        made_from,
        execution.on_this_machine(),
        execution.device,
        execution.asks_for_gpu,
    )


def has_refiner(job: RefinerJob) -> bool:
    """Return whether the refiner of this job is saved and up to date. Raises ModelError if it is damaged.

    It is not if a slide that could not be read then has another file now.
    """
    found = load_refiner(job.folder, torch.device("cpu"), job.made_from)
    return found is not None and _states(job, found.left_out) == found.left_out


def train_refiner(job: RefinerJob) -> str:
    """Train the refiner of a fold and save it beside its model; return in words what it learned from.

    Raises DataError if the slides have no tiles to learn from, or if too many cannot be read.
    """
    run, model = RunFolder(job.run), load_model(job.folder)
    for slide_id in job.without_file:
        logger().warning("%s: slide %s is left out of the training: its file is gone", job.title, slide_id)
    lesions = {
        **_lesions(run, job, TUMOUR, outlined_lesions),
        **_lesions(run, job, NORMAL, found_lesions),
    }
    slides = [slide for member in job.slides if (slide := _training_slide(run, job, model, member, lesions))]
    limits = find_limits(slides, job.spec, model.threshold.value if model.threshold else 0.0)
    chosen = choose_tiles(slides, limits, job.spec, np.random.default_rng(job.spec.seed))
    waiting = tile_jobs(slides, chosen, job.reader, job.spec)
    parts, failed = read_slides(read_tiles, waiting, stage=job.title, spec=job.reading)
    _check_left_out(job, parts, failed)
    tiles = join_tiles(list(parts.values()))
    counts = {
        "tumour": int(tiles.labels.sum()),
        "normal": int((1 - tiles.labels).sum()),
        "outlined": int(tiles.has_mask.sum()),
    }
    network = fit_tiles(tiles, job.spec, pick_device(job.device))
    left_out = _states(job, [*job.without_file, *failed])
    save_refiner(job.folder, network, job.spec, limits, job.made_from, counts, left_out)
    return "{tumour} tumour and {normal} normal tiles, {outlined} of them with outlines".format(**counts)


def _check_left_out(job: RefinerJob, parts: Mapping[str, SlideTiles], failed: Mapping[str, Outcome]) -> None:
    """Warn of the slides that could not be read, by name. Raises DataError if they are too many."""
    warn_of_left_out(job.title, failed, "the training")
    count = len(parts) + len(failed)
    if len(failed) > MOST_LEFT_OUT * count:
        first, outcome = next(iter(failed.items()))
        raise DataError(
            f"{job.title}: {len(failed)} of the {count} slides to learn from cannot be read, so that too few "
            f"are left; the first, {first}: {outcome.reason}"
        )


def _states(job: RefinerJob, slide_ids: Iterable[str]) -> dict[str, str]:
    """Return what identifies the state of slides that could not be read: their files and the packages that
    read them; "" for a slide without file."""
    sources = {member.source.slide_id: member.source for member in job.slides}
    return {slide_id: _state(sources.get(slide_id)) for slide_id in slide_ids}


def _state(source: SlideSource | None) -> str:
    if source is None:
        return ""
    try:
        return digest_json([slide_state(source.file, source.slide_id).digest, package_versions()])
    except (OSError, WsiMilError):
        return ""


def _outlines(context: RunContext, fold: Fold) -> dict[str, Path | None]:
    """Training slide -> the file that outlines its lesions; None where there is none."""
    config = context.config
    if config.refine.polygons is None:
        return dict.fromkeys(fold.train)
    polygons = AnnotationFolder(config.refine.polygons)
    return {slide_id: polygons.find(slide_id) for slide_id in fold.train}


def _training_slide(
    run: RunFolder,
    job: RefinerJob,
    model: TrainedModel,
    member: LabelledSource,
    lesions: Mapping[str, tuple[Lesion, ...]],
) -> TrainingSlide | None:
    """Return a slide to learn from; None for one without features."""
    slide_id = member.source.slide_id
    store = run.store(slide_id)
    if store.stored_features(model.encoder.key) is None:
        return None
    info, table = store.read_info(), store.read_tiles()
    if scores_are_current(run, job.name, model, slide_id):
        scores = read_tile_scores(run.tile_scores(job.name, slide_id))
    else:  # of several folds, each scores its own test slides only
        scores = score_features(model, store.read_features(model.encoder.key))
    check_scores(scores, table)
    return TrainingSlide(member.source, store, info, table, member.kind, scores, lesions.get(slide_id))


def _lesions(
    run: RunFolder, job: RefinerJob, kind: int, function: Callable[[OutlineJob], tuple[Lesion, ...]]
) -> dict[str, tuple[Lesion, ...]]:
    """Return the outlined lesions of the slides of a kind, where they are known."""
    files = {m.source.slide_id: m.outline for m in job.slides if m.kind == kind and m.outline is not None}
    return read_outlines(
        function,
        run,
        files,
        job.rules,
        stage=job.title,
        used_for="the outlines that refine learns from",
        execution=job.reading,
    )
