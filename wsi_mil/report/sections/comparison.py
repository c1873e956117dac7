"""Section "Every training": the models compared over all folds, repeats and seeds."""

from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill
from wsi_mil.run.trainings import summarise


def read(source: ReportSource) -> Content | None:
    if not source.run.comparison.exists():
        return None
    head, *rows = summarise(source.run.comparison, source.task)
    if all(row[1] == "1" and row[0] in source.metrics for row in rows):
        return None  # one training per model, and section "Evaluation" shows each of them
    return Content([head, *rows], lambda: fill(__file__, head=head, rows=rows), links=())


SECTION = Section("Every training", "comparison", 20, read)
