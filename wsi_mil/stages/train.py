"""train: one training for each model and fold, side by side, and a table that compares the models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wsi_mil.aggregators.instance_maximum import InstanceMaximum
from wsi_mil.aggregators.names import AGGREGATORS
from wsi_mil.bags import Split
from wsi_mil.encoders.base import pick_device
from wsi_mil.errors import ConfigError, ModelError
from wsi_mil.execution import ExecutionSpec, run_jobs, stopped_at_the_end
from wsi_mil.execution.spec import available_cores
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.logs import logger, progress
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.slide_outlines import outlined_shares, read_outlines
from wsi_mil.run.trainings import write_comparison
from wsi_mil.scoring.card import CARD, read_card
from wsi_mil.scoring.model import check_weights
from wsi_mil.stages.train_one import TrainingJob, train_one
from wsi_mil.stages.training_set import (
    TrainingSet,
    annotated_slides,
    load_or_make_split,
    training_set,
    view_digests,
)
from wsi_mil.tasks import task_values
from wsi_mil.tasks.names import labels_beyond_order
from wsi_mil.training import TrainSpec
from wsi_mil.training.loop import HISTORY, has_checkpoint


def run(context: RunContext) -> int:
    """Train every model on every fold and write the table that compares them.

    Returns how many trainings were not up to date.
    """
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
    write_comparison(folder, list(models), len(split.folds), data.task)
    return trained


def run_train(
    run: RunFolder, data: TrainingSet, split: Split, models: Mapping[str, TrainSpec], execution: ExecutionSpec
) -> int:
    """Train every model on every fold; return how many trainings were not up to date.

    A training that fails does not stop the others; afterwards the first reason is raised (ModelError).
    """
    jobs = [
        _job(run, name, spec, data, split, n, execution)
        for name, spec in models.items()
        for n in range(len(split.folds))
    ]
    waiting = _with_marks(run, data, [job for job in jobs if not is_trained(run, job)], execution)
    results = run_jobs(train_one, waiting, spec=side_by_side(execution, len(jobs)))
    failed = []
    shown = progress(results, total=len(waiting), label="train", unit="model")
    with stopped_at_the_end(results):
        for job, result in zip(waiting, shown, strict=True):
            logger().info("  %s: %s", job.title, result.text)
            if result.failed:
                failed.append(f"{job.title}: {result.text}")
    if failed:
        more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
        raise ModelError(
            f"{failed[0]}{more}. The models that were trained are kept: correct this and run again"
        )
    return len(waiting)


def _with_marks(
    run: RunFolder, data: TrainingSet, jobs: Sequence[TrainingJob], execution: ExecutionSpec
) -> list[TrainingJob]:
    """Return the jobs with the tumour tiles of their annotated slides, whose outlines worker processes read.

    A slide whose outlines cannot be read is trained on without them; a warning names it.
    """
    slides = sorted({slide_id for job in jobs for slide_id in job.annotated})
    if data.annotations is None or not slides:
        return list(jobs)
    shares = read_outlines(
        outlined_shares,
        run,
        data.annotations.files(slides),
        data.annotations.rules,
        stage="train",
        used_for="the outlines that models may see",
        execution=execution,
    )
    marks = {slide_id: share >= data.patch_overlap for slide_id, share in shares.items()}
    return [replace(job, marks={s: marks[s] for s in job.annotated if s in marks}) for job in jobs]


def is_trained(run: RunFolder, job: TrainingJob) -> bool:
    """Return whether the folder of this job holds the model, made from the same inputs.

    A damaged model is made again if the checkpoint of its last epoch is there. Raises ModelError if it is
    not: another training costs time, and is the user's decision.
    """
    folder = run.model(job.name, job.number)
    if not (folder / CARD).exists():
        return False
    try:
        card = read_card(folder)
        if card.inputs_digest != job.inputs:
            return False
        check_weights(folder, card)
        return (folder / HISTORY).exists() or not has_checkpoint(folder, job.inputs)
    except ModelError as error:
        if not has_checkpoint(folder, job.inputs):
            raise
        logger().warning("train: %s is made again from its checkpoint: %s", job.title, error)
        return False


def side_by_side(execution: ExecutionSpec, trainings: int) -> ExecutionSpec:
    """Return the settings with the numbers of workers and threads for so many trainings.

    `trainings` counts finished ones, too: the last digits of a loss depend on the number of threads, so a
    resumed run must use as many as one that was not interrupted. On Dask nothing changes, and this machine
    needs no GPU.
    """
    if execution.backend == "dask":
        return execution
    on_gpu = pick_device(execution.device).type == "cuda"
    workers = execution.workers or (1 if on_gpu else available_cores())
    workers = max(min(workers, trainings), 1)
    return execution.model_copy(
        update={"workers": workers, "threads": max(execution.resolved_threads() // workers, 1) * workers}
    )


def _spec_values(name: str, spec: TrainSpec) -> dict[str, Any]:
    """Return the settings without those that change nothing: models of earlier versions stay up to date."""
    unused = {"restarts"} if not spec.restarts else set()
    method = AGGREGATORS.load(spec.aggregator or name)
    if isinstance(method, type) and not issubclass(method, InstanceMaximum):
        unused |= {"warm_up", "warm_up_share"}
    return spec.model_dump(mode="json", exclude=unused)


def _job(
    run: RunFolder,
    name: str,
    spec: TrainSpec,
    data: TrainingSet,
    split: Split,
    number: int,
    execution: ExecutionSpec,
) -> TrainingJob:
    fold = split.folds[number]
    if spec.views and not data.encoder.views:
        raise ConfigError(
            f"models.{name}.views: there are no views to train on: give encoder.views=4 and run `wsi-mil "
            "extract`"
        )
    annotated = annotated_slides(name, spec, data, fold)
    inputs = {
        "spec": _spec_values(name, spec),
        "fold": [number, fold.digest("train"), fold.digest("val"), fold.digest("test")],
        "features": [data.features_digests[slide_id] for slide_id in (*fold.train, *fold.val)],
        "labels": [data.target(slide_id) for slide_id in (*fold.train, *fold.val)],
        "class_names": data.class_names,
        **labels_beyond_order(data.task),
        "made_with": [data.tissue.digest(), data.tiles.digest(), data.encoder.digest()],
        "outlines": [digest_file(path) for path in map(data.outline, annotated) if path],
    }
    if spec.views:
        inputs["views"] = [view_digests(run, data, slide_id) for slide_id in fold.train]
    if data.task.kind != "detection":  # models of detection keep the digest that they have always had
        inputs["task"] = {key: value for key, value in task_values(data.task).items() if key != "scheme"}
    return TrainingJob(
        run.path,
        name,
        spec,
        data,
        fold,
        number,
        split.digest(),
        annotated,
        digest_json(inputs),
        execution.device,
        execution.asks_for_gpu,
    )
