"""Section "Every training": the models compared over all folds, repeats and seeds."""

from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill
from wsi_mil.run.method_comparison import compare_methods, method_table
from wsi_mil.run.trainings import summarise


def read(source: ReportSource) -> Content | None:
    if not source.run.comparison.exists():
        return None
    head, *rows = summarise(source.run.comparison, source.task)
    if all(row[1] == "1" and row[0] in source.metrics for row in rows):
        return None  # one training per model, and section "Evaluation" shows each of them
    pairs = _pairs(source, [row[0] for row in rows])
    return Content([head, *rows, *pairs], lambda: fill(__file__, head=head, rows=rows, pairs=pairs), links=())


def _pairs(source: ReportSource, names: list[str]) -> list[list[str]]:
    """Return the table of every pair of methods; empty with one method."""
    if len(names) < 2 or not source.run.split.exists():
        return []
    return method_table(compare_methods(source.run, names, source.task))


SECTION = Section("Every training", "comparison", 20, read, version=2)
