"""Slides and lesions of one model: called right and wrong, thresholds, calibration, lesions found by size."""

from wsi_mil.evaluation.metrics_file import metrics_json
from wsi_mil.evaluation.results import SlideResult
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill


def read(source: ReportSource, name: str) -> Content | None:
    metrics = source.metrics.get(name)
    if metrics is None or not isinstance(metrics.slide, SlideResult):
        return None  # tasks other than detection call no slide positive
    labels = metrics.labels
    positive = ", ".join(labels.positive) if labels else "positive"
    negative = ", ".join(labels.negative) if labels else "negative"
    return Content(
        metrics_json(metrics), lambda: fill(__file__, m=metrics, positive=positive, negative=negative)
    )


PART = ModelPart(10, read, version=2)
