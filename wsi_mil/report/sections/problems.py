"""Section "Problems": the slides that failed, were empty or were skipped, and why."""

from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill


def read(source: ReportSource) -> Content:
    rows = source.run.ledger.problems()
    shown = [[row.slide_id, row.stage, row.status, row.reason] for row in rows]
    return Content(shown, lambda: fill(__file__, problems=rows))


SECTION = Section("Problems", "problems", 60, read)
