"""Each class of one model against all others, and which classes were taken for which."""

from dataclasses import asdict

from wsi_mil.evaluation.table import all_metrics
from wsi_mil.io.json import without_nan
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill


def read(source: ReportSource, name: str) -> Content | None:
    metrics = source.metrics.get(name)
    if metrics is None or metrics.classes is None:
        return None  # two classes of detection are in the overview
    classes = metrics.classes
    titles = {entry.name: entry.title for entry in all_metrics() if entry.level == "slide"}
    return Content(without_nan(asdict(classes)), lambda: fill(__file__, found=classes, titles=titles))


PART = ModelPart(15, read)
