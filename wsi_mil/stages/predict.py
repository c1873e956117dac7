"""predict: tiles, features, scores, heatmaps and a report of new slides, made with the settings of a
trained model."""

from pathlib import Path

from wsi_mil.config import RunConfig, SlidesConfig, save_config, write_provenance
from wsi_mil.contracts.qupath import QuPathSpec
from wsi_mil.contracts.scores import SlideScoreRow, SlideScoresHeader
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders.base import pick_device
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import DataError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.remote import Location
from wsi_mil.io.tables import write_csv
from wsi_mil.logs import logger
from wsi_mil.refine.refiner import load_refiner
from wsi_mil.run.context import RunContext, RunSummary
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import locked
from wsi_mil.scoring import load_model, write_slide_scores
from wsi_mil.scoring.model import TrainedModel, fold_folder
from wsi_mil.slides import find_slides
from wsi_mil.stages.heatmap import draw_model
from wsi_mil.stages.refine import refine_slides
from wsi_mil.stages.score import score_row, score_slides
from wsi_mil.stages.table import STAGES
from wsi_mil.tasks import Task, TaskSpec
from wsi_mil.tasks.names import task_name

COLUMNS = ["slide", "probability", "threshold", "predicted", "tiles", "model"]


def predict_slides(
    model_folder: Path,
    slides: Location,
    out: Path,
    *,
    mpp: float | None = None,
    weights: str | None = None,
    execution: ExecutionSpec | None = None,
    qupath: QuPathSpec | None = None,
) -> RunSummary:
    """Write predictions.csv, scores, heatmaps, GeoJSON and report.html for a folder of slides or one slide.

    Tiles and features are made with the model's own settings; `weights`: where the encoder's checkpoint lies
    on this machine, if elsewhere than at training (its digest must be the same). Slides that were finished
    before are skipped.
    """
    execution, qupath = execution or ExecutionSpec(), qupath or QuPathSpec()
    model = _announced(load_model(model_folder))
    encoder = _encoder(model, weights)
    run = RunFolder(out)
    files = find_slides(slides)
    if not files:
        raise DataError(f"no slide below {slides}: expected files such as .svs, .tiff, .ndpi, .mrxs")
    sources = [SlideSource(file.slide_id, file.path, mpp) for file in files]
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
        write_provenance(out, config)
        save_config(config, out / "config.yaml")
        run.ledger.keep_only(set(context.slide_ids))
        work = {"tile": STAGES["tile"].run(context), "extract": STAGES["extract"].run(context)}
        folder, name = fold_folder(model_folder), model.name
        scored, work["score"] = score_slides(context, name, folder, model, context.slide_ids)
        rows = [score_row(context, name, model, 0, slide_id, "unlabelled") for slide_id in scored]
        write_slide_scores(
            run.slide_scores(name),
            rows,
            SlideScoresHeader(name, "", 1, task_name(model.task), model.task.labels),
        )
        _write_predictions(out / "predictions.csv", rows, name, model.task)
        refiner = load_refiner(folder, pick_device(execution.device))
        if refiner is not None:  # the model was refined: new slides get pixel-level maps, too
            chosen = [source for source in sources if source.slide_id in set(scored)]
            work["refine"] = refine_slides(run, name, folder, model, refiner, chosen, "auto", execution)
        work["heatmap"] = draw_model(context, name)
        work["report"] = STAGES["report"].run(context)
        for stage, count in work.items():
            logger().info("%-9s %s", stage, f"{count} worked on" if count else "up to date")
        return RunSummary(work, run.ledger.problems())


def _encoder(model: TrainedModel, weights: str | None) -> EncoderSpec:
    """Return the model's encoder without views, which are for training, and with its weights at `weights`."""
    own = {} if weights is None else {"weights": weights}
    return model.encoder.model_copy(update={**own, "views": 0})


def _announced(model: TrainedModel) -> TrainedModel:
    """Return the model after one line that says which of its classes is positive."""
    if model.task.labels is not None:
        logger().info("%s", model.task.labels.line)
    return model


def _write_predictions(path: Path, rows: list[SlideScoreRow], model: str, task: Task) -> None:
    """Write one row for each slide: of detection the call at the threshold, of other tasks the prediction."""
    if task.kind == "detection":
        write_csv(path, COLUMNS, [_called(row, model) for row in rows])
        return
    columns = ["slide", "prediction", *(f"p_{name}" for name in task.class_names), "tiles", "model"]
    found = [
        [row.slide_id, task.text(row.shown), *(f"{p:.6f}" for p in row.class_probabilities), row.tiles, model]
        for row in rows
    ]
    write_csv(path, columns, found)


def _called(row: SlideScoreRow, model: str) -> list[object]:
    called = "positive" if row.predicted else "negative"
    return [row.slide_id, f"{row.probability:.6f}", f"{row.threshold:.6f}", called, row.tiles, model]
