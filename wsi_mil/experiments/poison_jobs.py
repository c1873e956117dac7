"""The trainings of the poison experiment: every model, fold and arm, and which of them are already done."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_mil.aggregators import AGGREGATORS
from wsi_mil.bags import Fold, Split
from wsi_mil.evaluation import AnnotationRules
from wsi_mil.experiments.poison_inputs import PoisonTraining
from wsi_mil.experiments.poison_store import of_poison, poisoned_features
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.io.json import read_json
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.logs import logger
from wsi_mil.robustness.poison.conditions import Arm
from wsi_mil.robustness.poison.study import TRAINING_FORMAT
from wsi_mil.run.context import RunContext
from wsi_mil.run.slide_outlines import outlined_lesions, read_outlines
from wsi_mil.stages.training_set import TrainingSet
from wsi_mil.tasks.names import labels_beyond_order
from wsi_mil.training import TrainSpec

IN_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True)
class SharedInputs:
    """What all trainings read, by slide id, and in_memory as in `PoisonTraining`.

    features: digests of clean and poisoned features. outlines: files. truth: digests of these files.
    """

    features: dict[str, list[str]]
    outlines: dict[str, Path]
    truth: dict[str, str]
    in_memory: bool


def poison_trainings(
    context: RunContext, data: TrainingSet, split: Split, arms: Sequence[Arm]
) -> list[PoisonTraining]:
    """Return the trainings of every model, fold and arm. Raises ConfigError for an unknown aggregator."""
    shared = _shared_inputs(context, data)
    jobs = []
    for name in context.config.models:
        train = context.config.train_spec(name)
        _ = AGGREGATORS[train.aggregator or name]
        for number, fold in enumerate(split.folds):
            inputs = _inputs_digest(context, data, shared, train, number, fold)
            jobs += [_training(context, data, shared, name, train, number, fold, arm, inputs) for arm in arms]
    return jobs


def is_done(job: PoisonTraining) -> bool:
    """Return whether the result of a training exists, in the present format and from the same inputs. A
    damaged one is made again, which is logged."""
    try:
        if not job.result.exists():
            return False
        found = read_json(job.result)
        return (found.get("format_version"), found.get("inputs_digest")) == (TRAINING_FORMAT, job.inputs)
    except DamagedFileError as error:
        logger().warning("poison: a training is done again: %s", error)
        return False


def with_readable_outlines(context: RunContext, jobs: Sequence[PoisonTraining]) -> list[PoisonTraining]:
    """Return the trainings without the outlines that cannot be read: their slides are left out of the metrics
    that need outlines, with a warning that names them. Worker processes read the outlines once before."""
    if not jobs:
        return []
    tested = {s for job in jobs for s in job.fold.test if job.is_positive(s)}
    files = {s: path for s, path in jobs[0].outlines.items() if s in tested}
    readable = read_outlines(
        outlined_lesions,
        context.run,
        files,
        jobs[0].rules,
        stage="poison",
        used_for="the metrics of poison",
        execution=context.config.execution,
    )
    return [replace(job, outlines={s: files[s] for s in readable}) for job in jobs]


def _shared_inputs(context: RunContext, data: TrainingSet) -> SharedInputs:
    run, spec, key = context.run, context.config.poison, context.config.encoder.key
    clean = {s: run.store(s).stored_features(key) for s in data.labels}
    poisoned = {s: poisoned_features(run, spec, s, key) for s in data.labels}
    features = {s: [str(f.digest if f else None) for f in (clean[s], poisoned[s])] for s in data.labels}
    values = sum(found.rows * found.dim for found in clean.values() if found is not None)
    annotations = data.annotations
    outlines = annotations.files(data.labels) if annotations else {}
    truth = {s: digest_file(path) for s, path in sorted(outlines.items())}
    return SharedInputs(features, outlines, truth, 2 * 4 * values < IN_MEMORY_BYTES)


def _inputs_digest(
    context: RunContext, data: TrainingSet, shared: SharedInputs, train: TrainSpec, number: int, fold: Fold
) -> str:
    members = [s for part in (fold.train, fold.val, fold.test) for s in part]
    classes = context.config.slides.lesion_classes
    return digest_json(
        {
            **({"lesion_classes": classes} if classes else {}),
            "poison": context.config.poison.digest(),
            "spec": train.model_dump(mode="json"),
            "fold": [number, fold.train, fold.val, fold.test],
            "features": [shared.features[s] for s in members],
            "labels": [data.labels[s].label for s in members],
            **labels_beyond_order(data.task),
            "truth": shared.truth,
            "evaluation": context.config.evaluation.digest(),
        }
    )


def _training(
    context: RunContext,
    data: TrainingSet,
    shared: SharedInputs,
    name: str,
    train: TrainSpec,
    number: int,
    fold: Fold,
    arm: Arm,
    inputs: str,
) -> PoisonTraining:
    config = context.config
    return PoisonTraining(
        run=context.run.path,
        poison=config.poison,
        name=name,
        spec=train,
        arm=arm,
        fold=fold,
        number=number,
        labels=data.labels,
        task=data.task,
        encoder=config.encoder,
        evaluation=config.evaluation,
        outlines=shared.outlines,
        rules=data.annotations.rules if data.annotations else AnnotationRules(),
        device=config.execution.device,
        needs_gpu=config.execution.asks_for_gpu,
        in_memory=shared.in_memory,
        inputs=digest_json([inputs, arm]),
        result=of_poison(context.run, config.poison, f"trainings/{name}_{arm}_fold{number}.json"),
    )
