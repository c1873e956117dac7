"""Scores of new slides by one or several trainings of a model, and predictions.csv."""

import math
from collections.abc import Sequence
from pathlib import Path

from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.io.tables import write_csv
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext
from wsi_mil.run.current import scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_tile_scores, write_tile_scores
from wsi_mil.scoring.ensemble import Agreement, agreement, mean_scores
from wsi_mil.scoring.model import TrainedModel
from wsi_mil.stages.score import score_slides

COLUMNS = ["slide", "probability", "threshold", "predicted", "tiles", "model", "calibrated", "conformal"]
OF_SEVERAL = ["models", "called_by", "sd", "lowest", "highest"]


def score_trainings(
    context: RunContext, model: TrainedModel, trained: Sequence[TrainedModel], folders: Sequence[Path]
) -> tuple[list[str], int]:
    """Score all slides with every training, and write the means as the scores of `model`.

    Returns the slides that all trainings have scored, and how many scores needed work.
    """
    if len(trained) == 1:
        return score_slides(context, model.name, folders[0], model, context.slide_ids)
    logger().info("predict: the mean of %d trainings of %s", len(trained), model.name)
    scored, worked = set(context.slide_ids), 0
    for number, (one, folder) in enumerate(zip(trained, folders, strict=True)):
        name = training_name(model, number)
        found, count = score_slides(context, name, folder, one, context.slide_ids)
        scored &= set(found)
        worked += count
    names = [training_name(model, number) for number in range(len(trained))]
    for slide_id in sorted(scored):
        if not scores_are_current(context.run, model.name, model, slide_id):
            parts = [read_tile_scores(context.run.tile_scores(name, slide_id)) for name in names]
            write_tile_scores(context.run.tile_scores(model.name, slide_id), mean_scores(parts, model))
    return [slide_id for slide_id in context.slide_ids if slide_id in scored], worked


def training_name(model: TrainedModel, number: int) -> str:
    """Return the name below which the scores of one of several trainings lie."""
    return f"{model.name}_training{number}"


def agreements_of(
    run: RunFolder,
    model: TrainedModel,
    trained: Sequence[TrainedModel],
    rows: Sequence[SlideScoreRow],
    error: float,
) -> dict[str, Agreement]:
    """Return what the trainings say of each slide of detection."""
    if any(one.calibration is None for one in trained):
        logger().warning(
            "predict: model %r is of an earlier version and has no calibration: columns `calibrated` and "
            "`conformal` are empty; train it again to have them",
            model.name,
        )
    names = [training_name(model, n) for n in range(len(trained))] if len(trained) > 1 else [model.name]
    found = {}
    for row in rows:
        parts = [read_tile_scores(run.tile_scores(name, row.slide_id)).probability for name in names]
        found[row.slide_id] = agreement(trained, parts, error)
    undecided = sum(one.conformal == "undecided" for one in found.values())
    if undecided:
        slides = min(len(one.calibration.nonconformity) for one in trained if one.calibration)
        few = "" if slides >= 1 / error - 1 else f": the {slides} validation slides are too few to decide any"
        logger().info(
            "predict: %d of %d slides are undecided at an error of %g%s", undecided, len(found), error, few
        )
    return found


def write_predictions(
    path: Path,
    run: RunFolder,
    model: TrainedModel,
    trained: Sequence[TrainedModel],
    rows: Sequence[SlideScoreRow],
    error: float,
) -> None:
    """Write one row for each slide: of detection the call at the threshold, of other tasks the prediction."""
    name, task = model.name, model.task
    if model.detects:
        agreements = agreements_of(run, model, trained, rows, error)
        columns = COLUMNS + (OF_SEVERAL if len(trained) > 1 else [])
        found = [_called(row, agreements[row.slide_id], name) for row in rows]
        write_csv(path, columns, [row[: len(columns)] for row in found])
        return
    columns = ["slide", "prediction", *(f"p_{name}" for name in task.class_names), "tiles", "model"]
    lines = [
        [row.slide_id, task.text(row.shown), *(f"{p:.6f}" for p in row.class_probabilities), row.tiles, name]
        for row in rows
    ]
    write_csv(path, columns, lines)


def _called(row: SlideScoreRow, found: Agreement, model: str) -> list[object]:
    called = "positive" if row.predicted else "negative"
    calibrated = "" if found.calibrated is None else f"{found.calibrated:.6f}"
    std = "" if math.isnan(found.std) else f"{found.std:.6f}"
    return [
        row.slide_id,
        f"{row.probability:.6f}",
        f"{row.threshold:.6f}",
        called,
        row.tiles,
        model,
        calibrated,
        found.conformal or "",
        found.models,
        found.called,
        std,
        f"{found.lowest:.6f}",
        f"{found.highest:.6f}",
    ]
