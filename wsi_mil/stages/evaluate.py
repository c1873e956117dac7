"""evaluate: metrics.json, curves and tables of every model, from its test slides only."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsi_mil.bags import Split
from wsi_mil.contracts.labels import TaskKind
from wsi_mil.evaluation import AnnotationFolder
from wsi_mil.evaluation.curves import LesionCurve, SlideCurves, lesion_curve, slide_curves
from wsi_mil.evaluation.detection_files import write_detections
from wsi_mil.evaluation.lesion_level import froc_result, observe_lesions
from wsi_mil.evaluation.lesion_tables import (
    FalsePositiveRow,
    LesionRow,
    csv_table,
    false_positive_rows,
    lesion_rows,
)
from wsi_mil.evaluation.measure import all_undefined
from wsi_mil.evaluation.metrics_file import calibration_json, is_current, write_metrics
from wsi_mil.evaluation.patch_level import patch_result
from wsi_mil.evaluation.results import FrocResult, MetricsFile, PatchResult, SlideResult
from wsi_mil.evaluation.slide_level import observe_slides, slide_result
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import HeldOutSlide
from wsi_mil.io.json import without_nan, write_json
from wsi_mil.io.tables import write_csv
from wsi_mil.report.curves import draw_curves
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import HeldOut, held_out, read_truth

LISTED = 200  # false positives that are listed, the most probable first


@dataclass(frozen=True)
class Annotated:
    """What the slides whose lesions are known add; `curve` is None without annotations."""

    patch: PatchResult
    froc: FrocResult
    curve: LesionCurve | None = None


def run_evaluate(
    run: RunFolder,
    name: str,
    split: Split,
    annotations: AnnotationFolder | None,
    spec: EvaluationSpec,
    task: TaskKind = "detection",
) -> bool:
    """Write metrics.json, curves.json and curves.png of a model; return whether there was work to do.

    With annotations also lesions.csv, false_positives.csv and the detections of each slide.
    """
    found = held_out(run, name, split, annotations, spec)
    folder = run.evaluation(name)
    done = folder / "metrics.json"
    if (folder / "curves.png").exists() and is_current(done, found.inputs_digest, task):
        return False
    data = observe_slides(found.rows)
    slide = slide_result(
        data,
        [row.fold for row in found.rows],
        [row.threshold for row in found.rows],
        seed=spec.seed,
        model=name,
        draws=spec.bootstrap,
        task=task,
    )
    curves = slide_curves(data, spec.seed, name, spec.bootstrap)
    if annotations is None:
        reason = "no annotations: give slides.annotations=FOLDER"
        patch, froc = (all_undefined(level, reason, task) for level in ("patch", "lesion"))
        annotated = Annotated(PatchResult(patch), FrocResult(froc))
    else:
        annotated = _annotated(run, name, found, spec, task)
    _write_curves(folder, name, slide, curves, annotated.curve)
    write_metrics(
        done,
        MetricsFile(name, found.inputs_digest, split.digest(), slide, annotated.patch, annotated.froc, task),
    )
    return True


def _annotated(run: RunFolder, name: str, found: HeldOut, spec: EvaluationSpec, task: TaskKind) -> Annotated:
    """Measure the slides whose lesions are known, and write their tables and detections."""
    slides, without = read_truth(run, name, found, spec)
    _write_tables(run.evaluation(name), slides)
    folds = [slide.fold for slide in slides]
    return Annotated(
        patch_result([slide.tiles for slide in slides], folds, without, spec, model=name, task=task),
        froc_result(slides, spec, model=name, task=task),
        lesion_curve(observe_lesions(slides, spec), spec.seed, name, spec.bootstrap),
    )


def _write_tables(folder: Path, slides: list[HeldOutSlide]) -> None:
    lesions, wrong = lesion_rows(slides), false_positive_rows(slides)[:LISTED]
    write_csv(folder / "lesions.csv", *csv_table(LesionRow, lesions, slides))
    write_csv(folder / "false_positives.csv", *csv_table(FalsePositiveRow, wrong, slides))
    for slide in slides:
        write_detections(folder / "detections" / f"{slide.slide_id}.csv", slide.detections)


def _write_curves(
    folder: Path, name: str, slide: SlideResult, curves: SlideCurves | None, froc: LesionCurve | None
) -> None:
    found: dict[str, Any] = {"slide": asdict(curves) if curves else {}}
    if froc is not None:
        found["froc"] = asdict(froc)
    write_json(folder / "curves.json", without_nan(found))
    (folder / "curves.png").unlink(missing_ok=True)
    found["calibration"] = calibration_json(slide)
    draw_curves({name: without_nan(found)}, folder / "curves.png")
