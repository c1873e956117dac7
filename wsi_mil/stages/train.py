"""train: models from features and labels, one training per model and fold, side by side; a table that compares them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from wsi_mil.aggregators import build_aggregator, outputs_for
from wsi_mil.bags import Fold, Split, SplitSpec, StoredBag, make_split
from wsi_mil.bags.labels import LabelTable
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.base import pick_device
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError, DataError, ModelError, StoreError, WsiMilError
from wsi_mil.evaluation import AnnotationFolder, read_annotations, tile_overlap
from wsi_mil.evaluation.measure import values
from wsi_mil.evaluation.slide_level import slide_metrics
from wsi_mil.execution import ExecutionSpec, run_jobs
from wsi_mil.execution.spec import available_cores
from wsi_mil.features import MappedFeatures
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.logs import logger, progress
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.trainings import write_comparison
from wsi_mil.scoring import TrainedModel, choose_threshold, slide_probability
from wsi_mil.scoring.model import read_card
from wsi_mil.scoring.thresholds import Threshold
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import Standardizer, TrainSpec, fit

OUT_OF_MEMORY = (
    "train.bags_per_batch or execution.workers, or take a max-pooling method (focus_mil, mi_net, max_pool): they train in "
    "chunks of train.chunk_rows"
)


@dataclass(frozen=True)
class TrainingSet:
    """What all models of a run share: usable labelled slides, how their features were made, where outlines lie."""

    labels: dict[str, SlideLabel]
    class_names: tuple[str, ...]
    features_digests: dict[str, str]
    tissue: TissueSpec
    tiles: TileSpec
    encoder: EncoderSpec
    annotations: AnnotationFolder | None = None
    patch_overlap: float = 0.5


@dataclass(frozen=True)
class TrainingJob:
    """One model on one fold: everything that a worker process needs."""

    run: Path
    name: str
    spec: TrainSpec
    data: TrainingSet
    fold: Fold
    number: int
    split_digest: str
    annotated: tuple[str, ...]
    inputs: str
    device: str

    @property
    def title(self) -> str:
        return f"{self.name} fold {self.number}"


def training_set(
    run: RunFolder,
    labels: LabelTable,
    tissue: TissueSpec,
    tiles: TileSpec,
    encoder: EncoderSpec,
    annotations: AnnotationFolder | None = None,
    patch_overlap: float = 0.5,
) -> TrainingSet:
    """Return the labelled slides that have features; a slide without is passed over, as its outcome says."""
    digests = {}
    for slide_id, row in sorted(labels.rows.items()):
        stored = run.store(slide_id).stored_features(encoder.key) if row.label is not None else None
        if stored is not None and stored.readable_rows > 0:
            digests[slide_id] = stored.digest
    if not digests:
        raise DataError(
            f"no labelled slide has {encoder.key} features in {run.path}: run `wsi-mil extract` first"
        )
    usable = {slide_id: labels.rows[slide_id] for slide_id in digests}
    return TrainingSet(
        usable, labels.class_names, digests, tissue, tiles, encoder, annotations, patch_overlap
    )


def load_or_make_split(run: RunFolder, data: TrainingSet, spec: SplitSpec) -> Split:
    """Return the run's saved split if it fits the slides and `spec`, else make and save a new one."""
    made = make_split(list(data.labels.values()), spec)
    if run.split.exists():
        saved = Split.load(run.split)
        if saved.spec == spec and saved.digest() == made.digest():
            return saved
        logger().info("the slides or the split settings have changed: a new split is drawn")
    made.save(run.split)
    return made


def run(context: RunContext) -> int:
    """Train every model on every fold and write the table that compares them; return how many trainings were needed."""
    config, folder = context.config, context.run
    data = training_set(
        folder,
        context.require_labels(),
        config.tissue,
        config.tiles,
        config.encoder,
        config.annotations,
        config.evaluation.patch_overlap,
    )
    split = load_or_make_split(folder, data, config.split)
    models = {name: config.train_spec(name) for name in config.models}
    trained = run_train(folder, data, split, models, config.execution)
    write_comparison(folder, list(models), len(split.folds))
    return trained


def run_train(
    run: RunFolder, data: TrainingSet, split: Split, models: Mapping[str, TrainSpec], execution: ExecutionSpec
) -> int:
    """Train every model on every fold; return how many trainings were needed.

    A training that fails does not stop the others; afterwards the first reason is raised (WsiMilError).
    """
    device = str(pick_device(execution.device))
    jobs = [
        _job(run, name, spec, data, split, n, device)
        for name, spec in models.items()
        for n in range(len(split.folds))
    ]
    waiting = [job for job in jobs if not is_trained(run, job)]
    results = run_jobs(train_one, waiting, spec=side_by_side(execution, len(jobs), device))
    failed = []
    for job, result in zip(
        waiting, progress(results, total=len(waiting), label="train", unit="model"), strict=True
    ):
        logger().info("  %s: %s", job.title, result.text)
        if result.failed:
            failed.append(f"{job.title}: {result.text}")
    if failed:
        more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
        raise ModelError(f"{failed[0]}{more}. What was trained is kept: mend it and run again")
    return len(waiting)


def is_trained(run: RunFolder, job: TrainingJob) -> bool:
    """Whether the model of this job, made from these inputs, is in its folder."""
    folder = run.model(job.name, job.number)
    return (folder / "model.json").exists() and read_card(folder)["inputs_digest"] == job.inputs


def side_by_side(execution: ExecutionSpec, trainings: int, device: str) -> ExecutionSpec:
    """Workers and threads that follow from the whole task, not from what is left of it: numbers stay the same on resuming."""
    workers = execution.workers or (1 if device.startswith("cuda") else available_cores())
    workers = max(min(workers, trainings), 1)
    return execution.model_copy(
        update={"workers": workers, "threads": max(execution.resolved_threads() // workers, 1) * workers}
    )


def _job(
    run: RunFolder, name: str, spec: TrainSpec, data: TrainingSet, split: Split, number: int, device: str
) -> TrainingJob:
    fold = split.folds[number]
    members = [*fold.train, *fold.val]
    if spec.views and not data.encoder.views:
        raise ConfigError(
            f"models.{name}.views: there are no views to train on: say encoder.views=4 and run `wsi-mil extract`"
        )
    annotated = annotated_slides(name, spec, data, fold)
    inputs = digest_json(
        {
            "spec": spec.model_dump(mode="json"),
            "fold": [number, fold.digest("train"), fold.digest("val"), fold.digest("test")],
            "features": [data.features_digests[slide_id] for slide_id in members],
            "labels": [data.labels[slide_id].label for slide_id in members],
            "class_names": data.class_names,
            "made_with": [data.tissue.digest(), data.tiles.digest(), data.encoder.digest()],
            **(
                {"views": [_view_digests(run, data, slide_id) for slide_id in fold.train]}
                if spec.views
                else {}
            ),
            "outlines": [digest_file(path) for path in (_outline(data, s) for s in annotated) if path],
        }
    )
    return TrainingJob(run.path, name, spec, data, fold, number, split.digest(), annotated, inputs, device)


def annotated_slides(name: str, spec: TrainSpec, data: TrainingSet, fold: Fold) -> tuple[str, ...]:
    """Return the training slides whose outlines the model may see: `annotated_share` of the training part, drawn with
    the training's seed among the positive slides that have outlines. None for a share of 0."""
    if spec.annotated_share == 0:
        return ()
    if not (spec.aggregator or name).startswith("guided("):
        raise ConfigError(
            f"models.{name}.annotated_share: only guided(...) aggregators use outlines; leave it at 0"
        )
    if data.annotations is None:
        raise ConfigError(f"models.{name}.annotated_share needs outlines: give slides.annotations=FOLDER")
    having = [s for s in fold.train if data.labels[s].label and _outline(data, s) is not None]
    wanted = max(round(spec.annotated_share * len(fold.train)), 1)
    if len(having) < wanted:
        raise DataError(
            f"models.{name}.annotated_share={spec.annotated_share:g} asks for {wanted} annotated training slides, only "
            f"{len(having)} positive ones have outlines in {data.annotations.path}"
        )
    return tuple(sorted(np.random.default_rng(spec.seed).choice(having, wanted, replace=False).tolist()))


def _outline(data: TrainingSet, slide_id: str) -> Path | None:
    return data.annotations.find(slide_id) if data.annotations else None


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended, in one line: the epoch that was kept, or why it failed."""

    text: str
    failed: bool = False


def train_one(job: TrainingJob) -> TrainingResult:
    """Train, choose the threshold on validation, measure on the test part, save. Errors that a user can correct are its result."""
    try:
        return _train(job)
    except WsiMilError as error:
        return TrainingResult(str(error), failed=True)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        reason = f"out of memory with {job.spec.bags_per_batch} bags a step ({(str(error) or 'no memory left').splitlines()[0]}): lower "
        return TrainingResult(reason + OUT_OF_MEMORY, failed=True)


def _train(job: TrainingJob) -> TrainingResult:
    run, fold, data = RunFolder(job.run), job.fold, job.data
    bags = {
        s: _bag(run, data, s, s in job.annotated) for part in (fold.train, fold.val, fold.test) for s in part
    }
    if job.spec.views:
        bags |= {s: replace(bags[s], views=_views(run, data, s)) for s in fold.train}
    train, val = [bags[i] for i in fold.train], [bags[i] for i in fold.val]
    standardizer = Standardizer.fit(train) if job.spec.standardize else Standardizer.identity(train[0].dim)
    name = job.spec.aggregator or job.name
    spec = job.spec.model_copy(update={"seed": job.spec.seed + 1000 * job.number})
    outputs = outputs_for(name, len(data.class_names), spec.head)
    model = build_aggregator(name, train[0].dim, outputs, spec.seed, spec.params)
    result = fit(
        model,
        [standardizer(bag) for bag in train],
        [standardizer(bag) for bag in val],
        spec,
        device=job.device,
        folder=run.model(job.name, job.number),
        identity=job.inputs,
        label=f"train {job.title}",
    )
    model.cpu().eval()
    scored = {s: slide_probability(model, standardizer(bags[s])) for s in (*fold.val, *fold.test)}
    truth = {s: int((data.labels[s].label or 0) > 0) for s in scored}
    value = choose_threshold([scored[s] for s in fold.val], [truth[s] for s in fold.val])
    scores = np.array([scored[s] for s in fold.test])
    test = slide_metrics(np.array([truth[s] for s in fold.test]) > 0, scores, scores >= value, draws=0)
    TrainedModel(
        name=job.name,
        aggregator=model,
        standardizer=standardizer,
        class_names=data.class_names,
        tissue=data.tissue,
        tiles=data.tiles,
        encoder=data.encoder,
        encoder_digest=_encoder_digest(run, data),
        threshold=Threshold(value, "largest sensitivity + specificity", "val", fold.digest("val")),
        training={
            "spec": {**spec.model_dump(mode="json"), "aggregator": name},
            "fold": job.number,
            "repeat": fold.repeat,
            "seed_number": fold.seed_number,
            "split_digest": job.split_digest,
            "kept_epoch": result.epoch,
            "epochs_run": len(result.history),
            "metrics": {key: number for key, number in result.metrics.items() if number == number},
            "test": values(test),
            "train_slides": len(train),
            "val_slides": len(val),
            "test_slides": len(fold.test),
            "annotated_slides": list(job.annotated),
            "train_digest": fold.digest("train"),
        },
    ).save(run.model(job.name, job.number), job.inputs)
    return TrainingResult(
        f"kept epoch {result.epoch} of {len(result.history)} (val AUC {result.metrics.get('val_auc', np.nan):.3f}), "
        f"threshold {value:.3f}"
    )


@cache
def _mapped(run: Path, slide_id: str, key: str, digest: str) -> MappedFeatures:
    """A slide's features, looked up and checked once a process however many trainings use them."""
    return RunFolder(run).store(slide_id).map_features(key)


def _bag(run: RunFolder, data: TrainingSet, slide_id: str, annotated: bool) -> StoredBag:
    row, store = data.labels[slide_id], run.store(slide_id)
    features = _mapped(run.path, slide_id, data.encoder.key, data.features_digests[slide_id])
    bag = StoredBag(slide_id, features, row.label or 0, row.patient)
    path = _outline(data, slide_id) if annotated else None
    if path is None or data.annotations is None:
        return bag
    lesions = read_annotations(path, slide_id, store.read_info(), data.annotations.bounds)
    marks = torch.from_numpy(tile_overlap(store.read_tiles(), lesions) >= data.patch_overlap).long()
    readable = torch.from_numpy(store.read_readable(data.encoder.key))
    return replace(bag, instance_labels=marks[readable])


def _view_digests(run: RunFolder, data: TrainingSet, slide_id: str) -> list[str]:
    """Digests of the features of every view; raises StoreError for one that is not there."""
    found = [run.store(slide_id).stored_features(spec.key) for spec in data.encoder.augmented]
    if None in found:
        raise StoreError(
            f"slide {slide_id!r} lacks view {found.index(None) + 1} of {len(found)}: run `wsi-mil extract`"
        )
    return [stored.digest for stored in found if stored]


def _views(run: RunFolder, data: TrainingSet, slide_id: str) -> tuple[MappedFeatures, ...]:
    digests = _view_digests(run, data, slide_id)
    keys = [spec.key for spec in data.encoder.augmented]
    return tuple(_mapped(run.path, slide_id, key, digest) for key, digest in zip(keys, digests, strict=True))


def _encoder_digest(run: RunFolder, data: TrainingSet) -> str:
    """The one digest that all slides' features share; raises ModelError if they differ."""
    found = {
        stored.encoder_digest if (stored := run.store(slide_id).stored_features(data.encoder.key)) else "None"
        for slide_id in data.labels
    }
    if len(found) != 1:
        raise ModelError(
            f"slides have features of {len(found)} different encoders under {data.encoder.key!r}: extract again"
        )
    return found.pop()
