"""The whole run, stage by stage, in the order of the data."""

from collections.abc import Callable
from typing import Any

from wsi_mil.config import RunConfig
from wsi_mil.errors import DataError, StoreError
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext, RunSummary, open_run, saved_split
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import hold


def stage_tile(context: RunContext) -> int:
    from wsi_mil.stages.tile import run_tile

    config = context.config
    if config.imported:
        return 0
    return run_tile(
        context.run,
        context.slides,
        config.slides.reader,
        config.tissue,
        config.tiles,
        config.qupath,
        config.execution,
    )


def stage_extract(context: RunContext) -> int:
    from wsi_mil.stages.extract import run_extract

    config = context.config
    if config.imported:
        return 0
    return run_extract(context.run, context.slides, config.slides.reader, config.encoder, config.execution)


def stage_train(context: RunContext) -> int:
    from wsi_mil.run.trainings import write_comparison
    from wsi_mil.stages.train import load_or_make_split, run_train, training_set

    config, run = context.config, context.run
    data = training_set(
        run,
        context.require_labels(),
        config.tissue,
        config.tiles,
        config.encoder,
        config.annotations,
        config.evaluation.patch_overlap,
    )
    split = load_or_make_split(run, data, config.split)
    models = {name: config.train_spec(name) for name in config.models}
    trained = run_train(run, data, split, models, config.execution)
    write_comparison(run, list(models), len(split.folds))
    return trained


def stage_score(context: RunContext) -> int:
    from wsi_mil.stages.score import run_score

    return run_score(
        context.run, list(context.config.models), context.labels, saved_split(context), context.slide_ids
    )


def stage_heatmap(context: RunContext) -> int:
    return sum(_draw(context, name) for name in context.config.models)


def _draw(context: RunContext, name: str) -> int:
    from wsi_mil.stages.heatmap import run_heatmap

    config = context.config
    return run_heatmap(
        context.run,
        name,
        context.slides,
        config.slides.reader,
        config.heatmaps,
        config.evaluation,
        config.qupath,
    )


def stage_evaluate(context: RunContext) -> int:
    from wsi_mil.stages.evaluate import run_evaluate

    context.require_labels()
    split, config = saved_split(context), context.config
    return sum(
        run_evaluate(context.run, name, split, config.annotations, config.evaluation)
        for name in config.models
    )


def stage_report(context: RunContext) -> int:
    from wsi_mil.stages.report import run_report

    config = context.config
    return int(
        run_report(context.run, context.slides, config.slides.reader, context.labels, list(config.models))
    )


STAGES: dict[str, Callable[[RunContext], int]] = {
    "tile": stage_tile,
    "extract": stage_extract,
    "train": stage_train,
    "score": stage_score,
    "heatmap": stage_heatmap,
    "evaluate": stage_evaluate,
    "report": stage_report,
}
SUPERVISED = ("train", "score", "evaluate", "heatmap")


def run_stage(config: RunConfig, stage: str) -> RunSummary:
    """Run one stage of a run; the stages before it must have been run."""
    return _run(config, [stage])


def run_pipeline(config: RunConfig) -> RunSummary:
    """Run every stage; whatever is up to date is left alone. Without labels: tiles, features and report only."""
    if config.labels_path is None:
        logger().info("no labels: tiles, features and report only (slides.labels=PATH for the rest)")
        return _run(config, [stage for stage in STAGES if stage not in SUPERVISED])
    return _run(config, list(STAGES))


def _run(config: RunConfig, stages: list[str]) -> RunSummary:
    RunFolder(config.run)  # refuses a folder of another version before anything is written into it
    with hold(config.run):
        context = open_run(config)
        work = {}
        for stage in stages:
            work[stage] = STAGES[stage](context)
            logger().info("%-9s %s", stage, _told(context, stage, work[stage]))
        return RunSummary(work, context.run.ledger.problems())


def _told(context: RunContext, stage: str, worked: int) -> str:
    if not worked:
        return "up to date"
    unit = {"train": "model", "evaluate": "model", "report": "page"}.get(stage, "slide")
    ledger = context.run.ledger.summary(stage)
    return f"{worked} {unit}{'s' if worked != 1 else ''}" + (f" worked on ({ledger})" if ledger else "")


def refine_run(config: RunConfig, name: str) -> tuple[RunSummary, dict[str, Any] | None]:
    """Refine one model of a run whose slides are scored and draw its heatmaps again; return what was done, and Dice and FROC with and
    without, where outlines are known. Raises DataError for a model that the run does not have."""
    from wsi_mil.encoders.base import pick_device
    from wsi_mil.stages.refine import RefineInputs, refuse_before_saving, run_refine
    from wsi_mil.stages.refine_evaluation import compare_refined

    run = RunFolder(config.run)
    if not (config.run / "provenance.json").exists():
        raise StoreError(f"no run in {config.run}: run `wsi-mil run` first")
    if not run.slide_scores(name).exists():
        scored = sorted(path.parent.name for path in (config.run / "scores").glob("*/slides.parquet"))
        raise DataError(
            f"model {name!r} has no scores in {config.run}; scored models: {', '.join(scored) or 'none'}"
        )
    refuse_before_saving(config.refine)
    with hold(config.run):
        context = open_run(config)
        run = context.run
        inputs = RefineInputs(
            run,
            {source.slide_id: source for source in context.slides},
            context.require_labels(),
            config.slides.reader,
            config.refine,
            pick_device(config.execution.device),
            config.qupath.bounds,
        )
        work = {"refine": run_refine(inputs, name, saved_split(context))}
        work["heatmap"] = _draw(context, name)
        found = (
            compare_refined(run, name, config.annotations, config.evaluation) if config.annotations else None
        )
        work["report"] = stage_report(context)
        for stage, count in work.items():
            logger().info("%-9s %s", stage, _told(context, stage, count))
        return RunSummary(work, run.ledger.problems()), found
