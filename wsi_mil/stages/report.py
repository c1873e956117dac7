"""The report stage: report.html of a run, from the sections in `wsi_mil/report/sections`."""

from collections.abc import Sequence

from wsi_mil.bags.labels import LabelTable
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.files import write_text
from wsi_mil.report.page import read_page
from wsi_mil.report.source import ReportSource
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder


def run(context: RunContext) -> int:
    """Write report.html; return 1, or 0 if it is up to date."""
    config = context.config
    return int(
        run_report(
            context.run,
            context.slides,
            config.slides.reader,
            context.labels,
            list(config.models),
            execution=config.execution,
        )
    )


def run_report(
    run: RunFolder,
    slides: Sequence[SlideSource],
    reader: str,
    labels: LabelTable | None,
    names: Sequence[str],
    *,
    execution: ExecutionSpec,
) -> bool:
    """Write report.html, unless the present page shows the same; return whether it was written.

    reader: the name of the slide reader, for pictures of tissue. names: the models; those without scores are
    left out. execution: its workers make the pictures, on this machine.
    """
    scored = tuple(name for name in names if run.slide_scores(name).exists())
    page = read_page(ReportSource(run, tuple(slides), reader, labels, scored, execution))
    if page.is_current():
        return False
    write_text(run.report, page.render())
    return True
