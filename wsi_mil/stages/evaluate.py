"""evaluate: metrics.json, curves and tables of every model, from its test slides only."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wsi_mil.bags import Split
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.evaluation import AnnotationFolder
from wsi_mil.evaluation.class_level import classes_result
from wsi_mil.evaluation.curves import LesionCurve, SlideCurves, lesion_curve, slide_curves
from wsi_mil.evaluation.curves_file import ModelCurves, write_curves
from wsi_mil.evaluation.detection_files import write_detections
from wsi_mil.evaluation.lesion_level import froc_result, observe_lesions
from wsi_mil.evaluation.lesion_tables import (
    FalsePositiveRow,
    LesionRow,
    csv_table,
    false_positive_rows,
    lesion_rows,
)
from wsi_mil.evaluation.measure import all_undefined, measure_all
from wsi_mil.evaluation.metrics_file import is_current, write_metrics
from wsi_mil.evaluation.patch_level import patch_result
from wsi_mil.evaluation.predictions import observe_predictions
from wsi_mil.evaluation.results import FrocResult, MetricsFile, PatchResult, PredictionResult, SlideResult
from wsi_mil.evaluation.slide_level import observe_slides, slide_result
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import HeldOutSlide
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.files import remove
from wsi_mil.io.seals import file_digests
from wsi_mil.io.tables import write_csv
from wsi_mil.logs import logger
from wsi_mil.report.curves import DrawnModel, draw_curves
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import HeldOut, held_out, read_truth, refuse_other_labels
from wsi_mil.tasks import Detection, Task

LISTED = 200  # false positives that are listed, the most probable first
FILES = (
    "curves.json",
    "curves.png",
    "lesions.csv",
    "false_positives.csv",
    "predictions.csv",
    "detections/**/*.csv",
)
"""What an evaluation consists of beside metrics.json, which holds the digests."""
DETECTION = Detection()


@dataclass(frozen=True)
class Annotated:
    """The results on slides whose lesions are known; `curve` is None without annotations, `second_patch` also
    for a model without second tile scores."""

    patch: PatchResult
    froc: FrocResult
    curve: LesionCurve | None = None
    second_patch: PatchResult | None = None


def run(context: RunContext) -> int:
    """Write the metrics of every model; return how many models were not up to date."""
    labels, split, config = context.require_labels(), context.require_split(), context.config
    return sum(
        run_evaluate(
            context.run,
            name,
            split,
            config.annotations,
            config.evaluation,
            labels.task,
            execution=config.execution,
        )
        for name in config.models
    )


def run_evaluate(
    run: RunFolder,
    name: str,
    split: Split,
    annotations: AnnotationFolder | None,
    spec: EvaluationSpec,
    task: Task = DETECTION,
    *,
    execution: ExecutionSpec,
) -> bool:
    """Write metrics.json and the other files of a model's evaluation; return whether there was work to do.

    Detection: curves.json and curves.png, and with annotations lesions.csv, false_positives.csv and the
    detections of each slide. Other tasks: predictions.csv. execution: where the slides are read.
    """
    found = held_out(run, name, split, annotations, spec)
    folder = run.evaluation(name)
    last = folder / ("curves.png" if task.kind == "detection" else "predictions.csv")
    refuse_other_labels(name, found.labels, task.labels)
    if last.exists() and is_current(folder / "metrics.json", found.inputs_digest, task.kind, task.labels):
        return False
    measured = _evaluate_detection if task.kind == "detection" else _evaluate_predictions
    slide, annotated = measured(run, name, found, annotations, spec, task, execution)
    write_metrics(
        folder / "metrics.json",
        MetricsFile(
            name,
            found.inputs_digest,
            split.digest(),
            slide,
            annotated.patch,
            annotated.froc,
            task.kind,
            task.labels,
            classes_result(found.rows, task.class_names, seed=spec.seed, model=name, draws=spec.bootstrap),
            file_digests(folder, FILES),
            annotated.second_patch,
        ),
    )
    return True


def _evaluate_detection(
    run: RunFolder,
    name: str,
    found: HeldOut,
    annotations: AnnotationFolder | None,
    spec: EvaluationSpec,
    task: Task,
    execution: ExecutionSpec,
) -> tuple[SlideResult | PredictionResult, Annotated]:
    data = observe_slides(found.rows)
    slide = slide_result(
        data,
        [row.fold for row in found.rows],
        [row.threshold for row in found.rows],
        seed=spec.seed,
        model=name,
        draws=spec.bootstrap,
        task=task.kind,
    )
    curves = slide_curves(data, spec.seed, name, spec.bootstrap)
    if annotations is None:
        annotated = _undefined("no annotations: give slides.annotations=FOLDER", task)
    else:
        annotated = _annotated(run, name, found, spec, task, execution)
    _write_curves(run.evaluation(name), name, slide, curves, annotated.curve)
    return slide, annotated


def _evaluate_predictions(
    run: RunFolder,
    name: str,
    found: HeldOut,
    annotations: AnnotationFolder | None,
    spec: EvaluationSpec,
    task: Task,
    execution: ExecutionSpec,
) -> tuple[SlideResult | PredictionResult, Annotated]:
    reason = f"does not apply to {task.kind}: only detection marks lesions"
    if annotations is not None:
        logger().info("evaluate %s: patch metrics, FROC and curves: %s", name, reason)
    data = observe_predictions(found.rows, task.reading)
    _write_predictions(run.evaluation(name) / "predictions.csv", found.rows, task)
    metrics = measure_all(data, spec.seed, name, spec.bootstrap, task.kind)
    return PredictionResult(metrics, data.n), _undefined(reason, task)


def _undefined(reason: str, task: Task) -> Annotated:
    patch, froc = (all_undefined(level, reason, task.kind) for level in ("patch", "lesion"))
    return Annotated(PatchResult(patch), FrocResult(froc))


def _annotated(
    run: RunFolder, name: str, found: HeldOut, spec: EvaluationSpec, task: Task, execution: ExecutionSpec
) -> Annotated:
    """Measure the slides whose lesions are known, and write their tables and detections."""
    slides, without = read_truth(run, name, found, spec, execution)
    _write_tables(run, name, slides)
    folds = [slide.fold for slide in slides]
    second = [slide.second_tiles for slide in slides if slide.second_tiles is not None]
    patch = partial(patch_result, folds=folds, without=without, spec=spec, model=name, task=task.kind)
    return Annotated(
        patch([slide.tiles for slide in slides]),
        froc_result(slides, spec, model=name, task=task.kind),
        lesion_curve(observe_lesions(slides, spec), spec.seed, name, spec.bootstrap),
        patch(second) if second and len(second) == len(slides) else None,
    )


def _write_tables(run: RunFolder, name: str, slides: list[HeldOutSlide]) -> None:
    folder = run.evaluation(name)
    lesions, wrong = lesion_rows(slides), false_positive_rows(slides)[:LISTED]
    write_csv(folder / "lesions.csv", *csv_table(LesionRow, lesions, slides))
    write_csv(folder / "false_positives.csv", *csv_table(FalsePositiveRow, wrong, slides))
    for slide in slides:
        write_detections(run.detections(name, slide.slide_id), slide.detections)


def _write_predictions(path: Path, rows: Sequence[SlideScoreRow], task: Task) -> None:
    """Write one row for each test slide: the target in the columns of the task, and the prediction."""
    columns = ["slide", "patient", "fold", *task.columns, "prediction", *(f"p_{c}" for c in task.class_names)]
    lines = [
        [
            row.slide_id,
            row.patient,
            row.fold,
            *map(task.text, row.target),
            task.text(row.shown),
            *(f"{p:.6f}" for p in row.class_probabilities),
        ]
        for row in rows
    ]
    write_csv(path, columns, lines)


def _write_curves(
    folder: Path, name: str, slide: SlideResult, curves: SlideCurves | None, froc: LesionCurve | None
) -> None:
    found = ModelCurves(curves, froc)
    write_curves(folder / "curves.json", found)
    remove(folder / "curves.png")
    draw_curves({name: DrawnModel.of(found, slide)}, folder / "curves.png")
