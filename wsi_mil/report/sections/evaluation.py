"""Section "Evaluation": the metrics of every model on held-out slides, and their curves in one picture."""

from collections.abc import Iterable

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.evaluation.curves_file import read_curves
from wsi_mil.evaluation.metrics_file import metrics_json
from wsi_mil.evaluation.results import MetricsFile, SlideResult
from wsi_mil.evaluation.table import shown_metrics
from wsi_mil.report.curves import DrawnModel, draw_curves
from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill


def read(source: ReportSource) -> Content | None:
    if not source.models:
        return None
    models = source.metrics
    task: TaskKind = next((found.task for found in models.values()), "detection")
    return Content(
        {name: metrics_json(found) for name, found in models.items()},
        lambda: fill(
            __file__,
            labels=_labels(models.values()),
            models=models,
            columns=shown_metrics("report", task),
            curves_png=_curves(source),
        ),
    )


def _labels(models: Iterable[MetricsFile]) -> list[str]:
    """Return what the classes of the models mean: one line, or several if the models differ."""
    return sorted({found.labels.line for found in models if found.labels is not None})


def _curves(source: ReportSource) -> bytes | None:
    """Write evaluation/curves.png with the curves of every evaluated model; return its bytes."""
    if not source.metrics:
        return None
    run = source.run
    files = {name: run.evaluation(name) / "curves.json" for name in source.metrics}
    curves = {
        name: DrawnModel.of(read_curves(file), slide)
        for name, file in files.items()
        if file.exists() and isinstance(slide := source.metrics[name].slide, SlideResult)
    }
    if not curves:  # tasks other than detection have none
        return None
    draw_curves(curves, run.curves)
    return run.curves.read_bytes()


SECTION = Section("Evaluation", "metrics", 10, read, version=4)
