"""Run one stage of a run or all of them, in the order of the data, while holding the lock of the run
folder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsi_mil.bags import make_split
from wsi_mil.bags.labels import LabelTable
from wsi_mil.config import RunConfig
from wsi_mil.config.validation import require_detection
from wsi_mil.errors import DataError, StoreError
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext, RunSummary, open_run
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import locked
from wsi_mil.stages.table import STAGES, Stage, prepare_workers

if TYPE_CHECKING:
    from wsi_mil.refine.evaluation import RefinementResult


def run_stage(config: RunConfig, name: str) -> RunSummary:
    """Run the stage `name` of a run; the stages before it must have been run."""
    return _run(config, [STAGES[name]])


def run_pipeline(config: RunConfig) -> RunSummary:
    """Run every stage; what is up to date is not done again. Without labels: tiles, features and report
    only."""
    stages = list(STAGES.values())
    if config.labels_path is None:
        logger().info("no labels: tiles, features and report only (slides.labels=PATH for the rest)")
        stages = [stage for stage in stages if not stage.needs_labels]
    return _run(config, stages)


def _run(config: RunConfig, stages: Sequence[Stage]) -> RunSummary:
    RunFolder(config.run)  # raises for a folder of another format before anything is written into it
    prepare_workers(stages, config.execution, at_once=not (config.run / "outcomes.csv").exists())
    with locked(config.run):
        context = open_run(config, extracts=STAGES["extract"] in stages)
        if len(stages) > 1 and context.labels is not None:
            refuse_small_cohort(context, context.labels)
        work = {}
        for stage in stages:
            work[stage.name] = stage.run(context)
            log_work(context, stage.name, work[stage.name])
        return RunSummary(
            work, context.run.ledger.problems(), len(context.empty_labelled()), context.labelled_slides()
        )


def refuse_small_cohort(context: RunContext, labels: LabelTable) -> None:
    """Raise DataError, before any slide is tiled, if the labelled slides are too few for the split."""
    rows = [labels.rows[slide_id] for slide_id in context.slide_ids if slide_id in labels.rows]
    make_split(rows, context.config.split, labels.task)


def log_work(context: RunContext, name: str, worked: int) -> None:
    """Log one line on what a stage did, for example 'tile  36 slides worked on (35 done, 1 failed)'."""
    unit = STAGES[name].unit if name in STAGES else "slide"
    text = "up to date"
    if worked:
        counts = context.run.ledger.summary(name)
        text = f"{worked} {unit}{'s' if worked != 1 else ''}" + (f" worked on ({counts})" if counts else "")
    logger().info("%-9s %s", name, text)


def refine_run(config: RunConfig, name: str) -> "tuple[RunSummary, RefinementResult | None]":
    """Refine one model of a run whose slides are scored, and draw its heatmaps again.

    Returns what was done, and Dice and FROC with and without refinement where outlines are known. Raises
    DataError for a model that the run does not have.
    """
    from wsi_mil.stages import refine
    from wsi_mil.stages.heatmap import draw_model
    from wsi_mil.stages.refine_evaluation import compare_refined

    run = RunFolder(config.run)
    if not (config.run / "provenance.json").exists():
        raise StoreError(f"no run in {config.run}: run `wsi-mil run` first")
    if not run.slide_scores(name).exists():
        scored = sorted(path.parent.name for path in (config.run / "scores").glob("*/slides.parquet"))
        raise DataError(
            f"model {name!r} has no scores in {config.run}; scored models: {', '.join(scored) or 'none'}"
        )
    require_detection(config, "refine")
    refine.refuse_before_saving(config.refine)
    with locked(config.run):
        context = open_run(config)
        run = context.run
        work = {"refine": refine.run(context, name)}
        work["heatmap"] = draw_model(context, name)
        found = None
        if config.annotations is not None:
            found = compare_refined(run, name, config.annotations, config.evaluation, config.execution)
        work["report"] = STAGES["report"].run(context)
        for stage, count in work.items():
            log_work(context, stage, count)
        return RunSummary(work, run.ledger.problems()), found
