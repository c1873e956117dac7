"""predict: slides that nobody labelled, through the whole path, as a trained model saw its own."""

import csv
import io
from functools import partial
from pathlib import Path

from wsi_mil.config import RunConfig, SlidesConfig, provenance, save_config
from wsi_mil.contracts.qupath import QuPathSpec
from wsi_mil.contracts.scores import SlideScoreRow, SlideScoresHeader
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders.base import pick_device
from wsi_mil.errors import DataError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.files import write_json, write_text
from wsi_mil.io.remote import Location
from wsi_mil.logs import logger
from wsi_mil.refine.refiner import load_refiner
from wsi_mil.run.accounting import each
from wsi_mil.run.context import RunSummary
from wsi_mil.run.current import scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import hold
from wsi_mil.scoring import load_model, write_slide_scores
from wsi_mil.scoring.model import fold_folder
from wsi_mil.slides import find_slides
from wsi_mil.stages.extract import run_extract
from wsi_mil.stages.heatmap import run_heatmap
from wsi_mil.stages.refine import refine_slide
from wsi_mil.stages.report import run_report
from wsi_mil.stages.score import score_one, score_row
from wsi_mil.stages.tile import run_tile

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
    """Write predictions.csv, scores, heatmaps, GeoJSON and report.html for the slides of a folder (or one file).

    Tiles and features are made with the model's own settings; `weights`: where the encoder's checkpoint lies on this
    machine, if elsewhere than at training (its digest must be the same). Slides that were done before are left alone.
    """
    execution, qupath = execution or ExecutionSpec(), qupath or QuPathSpec()
    model = load_model(model_folder)
    own = {} if weights is None else {"weights": weights}
    encoder = model.encoder.model_copy(update={**own, "views": 0})  # views are for training
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
    )
    with hold(out):
        write_json(out / "provenance.json", provenance(config))
        save_config(config, out / "config.yaml")
        ids = [source.slide_id for source in sources]
        run.ledger.keep_only(set(ids))
        work = {
            "tile": run_tile(run, sources, "auto", model.tissue, model.tiles, qupath, execution),
            "extract": run_extract(run, sources, "auto", encoder, execution),
            "score": each(
                f"score {model.name}",
                [i for i in ids if run.store(i).stored_features(encoder.key) is not None],
                lambda i: score_one(run, model.name, model, i),
                run,
            ),
        }
        scored = [slide_id for slide_id in ids if scores_are_current(run, model.name, model, slide_id)]
        rows = [score_row(run, model.name, model, 0, slide_id, "unlabelled", None) for slide_id in scored]
        write_slide_scores(run.slide_scores(model.name), rows, SlideScoresHeader(model.name, "", 1))
        _write_predictions(out / "predictions.csv", rows, model.name)
        refiner = load_refiner(fold_folder(model_folder), pick_device(execution.device))
        if refiner is not None:  # the model was refined: new slides get pixel-level maps, too
            by_id = {source.slide_id: source for source in sources}
            refine = partial(refine_slide, run, model.name, refiner, model, "auto")
            work["refine"] = each(f"refine {model.name}", scored, lambda i: refine(by_id[i]), run)
        work["heatmap"] = run_heatmap(
            run, model.name, sources, "auto", config.heatmaps, config.evaluation, qupath
        )
        work["report"] = int(run_report(run, sources, "auto", None, [model.name]))
        for stage, count in work.items():
            logger().info("%-9s %s", stage, f"{count} worked on" if count else "up to date")
        return RunSummary(work, run.ledger.problems())


def _write_predictions(path: Path, rows: list[SlideScoreRow], model: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        called = "positive" if row.predicted else "negative"
        writer.writerow(
            [
                row.slide_id,
                f"{row.probability:.6f}",
                f"{row.threshold:.6f}",
                called,
                row.tiles,
                model,
            ]
        )
    write_text(path, text.getvalue())
