"""The whole run, stage by stage, in the order of the data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wsi_mil.bags import Split, read_labels
from wsi_mil.bags.labels import LabelTable, check_against_slides
from wsi_mil.config import RunConfig, load_config, provenance, save_config
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError, DataError, StoreError
from wsi_mil.execution.lock import hold
from wsi_mil.files import digest_json, read_json, write_json
from wsi_mil.logs import logger
from wsi_mil.remote import Location
from wsi_mil.slides import find_slides
from wsi_mil.stages.run_folder import RunFolder, SlideSource
from wsi_mil.synthetic import write_cohort


@dataclass(frozen=True)
class RunContext:
    """A run with its slides and labels at hand."""

    config: RunConfig
    run: RunFolder
    slides: tuple[SlideSource, ...]
    labels: LabelTable | None

    @property
    def slide_ids(self) -> list[str]:
        return [source.slide_id for source in self.slides]

    def require_labels(self) -> LabelTable:
        if self.labels is None:
            raise DataError(
                "training and evaluation need labels: give slides.labels=PATH (a CSV with slide,label)"
            )
        return self.labels


def open_run(config: RunConfig, guest: bool = False) -> RunContext:
    """Return the run of a configuration: folder checked, cohort made if asked, slides found, labels read.

    A `guest` (poison, audit) leaves the configuration of a run that exists as it is, and may not ask for other slides, tiles or features.
    """
    _refuse_unknown_names(config)
    run = RunFolder(config.run)
    saved = config.run / "config.yaml"
    if guest and saved.exists():
        _refuse_other_features(config, load_config(saved))
    if config.synthetic is not None and config.slides.folder is None:
        write_cohort(config.run / "cohort", config.synthetic, config.execution)
    labels = None
    if config.labels_path is not None:
        labels = read_labels(config.labels_path, config.slides.class_names)
    sources = tuple(
        SlideSource(slide_id, path, (labels.mpp_of(slide_id) if labels else None) or config.slides.mpp)
        for slide_id, path in _slide_files(run, config).items()
    )
    if not (guest and saved.exists()):
        _write_provenance(run, config)
        save_config(config, saved)
    context = RunContext(config, run, sources, labels)
    _account_for_labels(context)
    return context


def _slide_files(run: RunFolder, config: RunConfig) -> dict[str, Location | None]:
    """Slide id -> file. Of imported features the stores say which slides there are, and a slide's file may be elsewhere."""
    if config.imported and config.slides.folder is None:
        files = []
    else:
        files = find_slides(config.slide_folder)
        if not files:
            raise DataError(
                f"no slide below {config.slide_folder}: expected files such as .svs, .tiff, .ndpi, .mrxs"
            )
    paths: dict[str, Location | None] = {file.slide_id: file.path for file in files}
    if config.imported:
        paths = {slide_id: paths.get(slide_id) for slide_id in run.stored_slides()}
        if not paths:
            raise DataError(f"{run.path} holds no imported features: run `wsi-mil import` again")
    return paths


def _refuse_unknown_names(config: RunConfig) -> None:
    """A name that does not exist is told now, not after hours of extraction."""
    from wsi_mil.aggregators.names import AGGREGATORS
    from wsi_mil.encoders.names import ENCODERS, FAMILIES
    from wsi_mil.encoders.published import refuse_other_scale
    from wsi_mil.slides.opening import READERS

    if config.slides.reader != "auto":
        _ = READERS[config.slides.reader]
    family, colon, _name = config.encoder.name.partition(":")
    _ = FAMILIES[family] if colon else ENCODERS[family]
    refuse_other_scale(config.encoder, config.tiles)
    for name in config.models:
        _ = AGGREGATORS[config.train_spec(name).aggregator or name]


def _refuse_other_features(config: RunConfig, saved: RunConfig) -> None:
    for block in ("tissue", "tiles", "encoder"):
        if getattr(config, block) != getattr(saved, block):
            raise ConfigError(
                f"{block}: {saved.run} was made with other settings, and its features are to stay as they are: leave `{block}` out, or "
                "give another run folder (run=PATH)"
            )
    if config.slides.folder != saved.slides.folder:
        raise ConfigError(
            f"slides.folder: {saved.run} holds the slides of {saved.slides.folder}: give another run folder (run=PATH)"
        )


def _write_provenance(run: RunFolder, config: RunConfig) -> None:
    path, value = run.path / "provenance.json", provenance(config)
    if not path.exists() or read_json(path) != value:
        write_json(path, value)


def _account_for_labels(context: RunContext) -> None:
    """Every label without slide and every slide without label becomes a row of the outcomes."""
    labels, run = context.labels, context.run
    run.ledger.keep_only({*context.slide_ids, *(labels.rows if labels else ())})
    if labels is None or context.config.labels_path is None:
        return
    without_slide, without_label = check_against_slides(
        labels, set(context.slide_ids), context.config.labels_path
    )
    for row in run.ledger.rows("labels"):
        if row.slide_id not in without_slide and row.slide_id not in without_label:
            run.ledger.forget(row.slide_id, "labels")
    for slide_id in without_slide:
        reason = f"label without slide: no file of this id below {context.config.slide_folder}"
        run.ledger.put(Outcome(slide_id, "labels", "failed", reason))
    for slide_id in without_label:
        run.ledger.put(
            Outcome(slide_id, "labels", "skipped", "slide without label: scored, but not trained on")
        )
    run.ledger.save()


def stage_tile(context: RunContext) -> int:
    from wsi_mil.stages.slides import run_tile

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
    from wsi_mil.stages.slides import run_extract

    config = context.config
    if config.imported:
        return 0
    return run_extract(context.run, context.slides, config.slides.reader, config.encoder, config.execution)


def stage_train(context: RunContext) -> int:
    from wsi_mil.stages.comparison import write_comparison
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


def _saved_split(context: RunContext) -> Split:
    if not context.run.split.exists():
        raise StoreError(f"no split at {context.run.split}: run `wsi-mil train` first")
    return Split.load(context.run.split)


def stage_score(context: RunContext) -> int:
    from wsi_mil.stages.score import run_score

    return run_score(
        context.run, list(context.config.models), context.labels, _saved_split(context), context.slide_ids
    )


def stage_heatmap(context: RunContext) -> int:
    return sum(_draw(context, name) for name in context.config.models)


def _draw(context: RunContext, name: str) -> int:
    from wsi_mil.stages.heatmaps import run_heatmap

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
    split, config = _saved_split(context), context.config
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


@dataclass(frozen=True)
class RunSummary:
    """What a call did: pieces of work per stage, and the slides that failed or were skipped."""

    work: dict[str, int]
    problems: list[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        return [row for row in self.problems if row.status == "failed"]


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
        work = {"refine": run_refine(inputs, name, _saved_split(context))}
        work["heatmap"] = _draw(context, name)
        found = (
            compare_refined(run, name, config.annotations, config.evaluation) if config.annotations else None
        )
        work["report"] = stage_report(context)
        for stage, count in work.items():
            logger().info("%-9s %s", stage, _told(context, stage, count))
        return RunSummary(work, run.ledger.problems()), found


def _told(context: RunContext, stage: str, worked: int) -> str:
    if not worked:
        return "up to date"
    unit = {"train": "model", "evaluate": "model", "report": "page"}.get(stage, "slide")
    ledger = context.run.ledger.summary(stage)
    return f"{worked} {unit}{'s' if worked != 1 else ''}" + (f" worked on ({ledger})" if ledger else "")


def plan(config: RunConfig) -> list[str]:
    """Return what `run` would do, in words, without doing any of it."""
    lines = [f"run folder   {config.run}" + (" (exists)" if config.run.exists() else "")]
    made = config.slides.folder is None and config.synthetic is not None
    if made and not (config.run / "cohort" / "cohort.json").exists() and config.synthetic is not None:
        count = 2 * config.synthetic.pairs + len(config.synthetic.odd)
        lines.append(f"synth        {count} synthetic slides into {config.run / 'cohort'}")
        return lines + [f"{stage:<12} would run" for stage in STAGES]
    slides = find_slides(config.slide_folder)
    run = RunFolder(config.run)
    tiled = sum(run.store(s.slide_id).tiles_digest() is not None for s in slides)
    extracted = sum(run.store(s.slide_id).features_attributes(config.encoder.key) is not None for s in slides)
    lines.append(f"slides       {len(slides)} below {config.slide_folder}")
    lines.append(
        f"tile         {tiled} have tiles; asked: {config.tiles.size_px} px at {config.tiles.mpp:g} µm/px"
    )
    lines.append(f"extract      {extracted} have {config.encoder.key} features")
    trained = [name for name in config.models if (run.path / "models" / name).is_dir()]
    lines.append(
        f"train        models {', '.join(config.models)}; trained before: {', '.join(trained) or 'none'}"
    )
    if config.execution.cluster is not None:
        lines += config.execution.cluster.plan()
    lines.append(f"configuration digest {digest_json(config.model_dump(mode='json'))}")
    return lines
