"""predict: tiles, features, scores, heatmaps and a report of new slides, made with the settings of a
trained model."""

from collections.abc import Sequence
from pathlib import Path

from wsi_mil.config import RunConfig, SlidesConfig, save_config, write_provenance
from wsi_mil.contracts.qupath import QuPathSpec
from wsi_mil.contracts.scores import SlideScoreRow, SlideScoresHeader
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders.choice import EncoderChoice
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import DataError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.remote import Location
from wsi_mil.logs import logger
from wsi_mil.refine.refiner import is_refined
from wsi_mil.run.context import RunContext, RunSummary
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import locked
from wsi_mil.scoring import load_model, write_slide_scores
from wsi_mil.scoring.ensemble import fold_folders, mean_model
from wsi_mil.scoring.model import TrainedModel
from wsi_mil.slides import find_slides
from wsi_mil.stages.heatmap import draw_model
from wsi_mil.stages.predictions import score_trainings, write_predictions
from wsi_mil.stages.refine import refine_slides
from wsi_mil.stages.score import score_row
from wsi_mil.stages.table import STAGES, prepare_workers
from wsi_mil.tasks import TaskSpec
from wsi_mil.tasks.names import task_name

LIKE_MODEL = "as the features of the model"


def predict_slides(
    model_folder: Path,
    slides: Location,
    out: Path,
    *,
    mpp: float | None = None,
    weights: str | None = None,
    execution: ExecutionSpec | None = None,
    qupath: QuPathSpec | None = None,
    error: float = 0.1,
    not_learned: bool = False,
) -> RunSummary:
    """Write predictions.csv, scores, heatmaps, GeoJSON and report.html for a folder of slides or one slide.

    model_folder: one training, or the folder of all trainings (folds, repeats, seeds) of a model, whose
    scores are averaged. error: the fraction of slides that the conformal decision of detection may get wrong.
    Tiles and features are made with the model's own settings; `weights`: where the encoder's checkpoint lies
    on this machine, if elsewhere than at training (its digest must be the same). Slides that were finished
    before are skipped. Raises ModelError for a model that has not learned, unless `not_learned`.
    """
    execution, qupath = execution or ExecutionSpec(), qupath or QuPathSpec()
    prepare_workers([STAGES["tile"], STAGES["extract"]], execution)
    folders = fold_folders(model_folder)
    trained = [load_model(folder) for folder in folders]
    for one, folder in zip(trained, folders, strict=True):
        if not not_learned:
            one.refuse_unlearned(folder)
    model = _announced(mean_model(trained))
    encoder = _encoder(model, weights)
    run, sources = RunFolder(out), _sources(slides, mpp)
    config = RunConfig(
        run=out,
        slides=SlidesConfig(folder=slides, mpp=mpp),
        tissue=model.tissue,
        tiles=model.tiles,
        encoder=encoder,
        qupath=qupath,
        execution=execution,
        models={model.name: {}},
        task=TaskSpec(kind=task_name(model.task)),
    )
    context = RunContext(config, run, tuple(sources), None)
    with locked(out):
        if run.split.exists():
            raise DataError(f"{out} is a run with models of its own: choose another folder for predictions")
        write_provenance(out, config)
        save_config(config, out / "config.yaml")
        run.ledger.keep_only(set(context.slide_ids))
        work = {"tile": STAGES["tile"].run(context), "extract": STAGES["extract"].run(context)}
        name = model.name
        scored, work["score"] = score_trainings(context, model, trained, folders)
        rows = _write_scores(context, model, trained, scored)
        write_predictions(out / "predictions.csv", run, model, trained, rows, error)
        if is_refined(folders[0]) and len(folders) == 1:  # new slides get pixel-level maps, too
            chosen = [source for source in sources if source.slide_id in set(scored)]
            work["refine"] = refine_slides(run, name, folders[0], model.digest, chosen, "auto", execution)
        work["heatmap"] = draw_model(context, name)
        work["report"] = STAGES["report"].run(context)
        _log_work(work)
        return RunSummary(work, run.ledger.problems())


def _write_scores(
    context: RunContext, model: TrainedModel, trained: Sequence[TrainedModel], slide_ids: Sequence[str]
) -> list[SlideScoreRow]:
    """Write slides.parquet of these slides and return its rows."""
    name, task, scheme = model.name, task_name(model.task), model.task.labels
    rows = [score_row(context, name, model, 0, slide_id, "unlabelled") for slide_id in slide_ids]
    not_learned = (0,) if any(one.training.learned is False for one in trained) else ()
    header = SlideScoresHeader(name, "", 1, task, scheme, model.second_kind, not_learned)
    write_slide_scores(context.run.slide_scores(name), rows, header)
    return rows


def _sources(slides: Location, mpp: float | None) -> list[SlideSource]:
    files = find_slides(slides)
    if not files:
        raise DataError(f"no slide below {slides}: expected files such as .svs, .tiff, .ndpi, .mrxs")
    return [SlideSource(file.slide_id, file.path, mpp) for file in files]


def _log_work(work: dict[str, int]) -> None:
    for stage, count in work.items():
        logger().info("%-9s %s", stage, f"{count} worked on" if count else "up to date")


def _encoder(model: TrainedModel, weights: str | None) -> EncoderSpec:
    """Return the model's encoder without views, which are for training, and with its weights at `weights`,
    after one line on the precision and backend of a network."""
    own = {} if weights is None else {"weights": weights}
    encoder = model.encoder.model_copy(update={**own, "views": 0})
    if encoder.runs_a_network:
        logger().info("%s", EncoderChoice(encoder, LIKE_MODEL, LIKE_MODEL).line)
    return encoder


def _announced(model: TrainedModel) -> TrainedModel:
    """Return the model after one line that says which of its classes is positive."""
    if model.task.labels is not None:
        logger().info("%s", model.task.labels.line)
    return model
