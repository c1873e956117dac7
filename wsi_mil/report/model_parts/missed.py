"""The lesions that one model missed, largest first."""

from wsi_mil.evaluation.lesion_tables import score01_of
from wsi_mil.io.files import digest_file
from wsi_mil.io.tables import Row, read_csv
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill


def read(source: ReportSource, name: str) -> Content | None:
    path = source.evaluation_file(name, "lesions.csv")
    if name not in source.metrics or path is None:
        return None
    missed = missed_lesions(read_csv(path))
    return (
        Content(digest_file(path), lambda: fill(__file__, missed=missed, score01_of=score01_of))
        if missed
        else None
    )


def missed_lesions(rows: list[Row]) -> list[Row]:
    """Return the rows of lesions.csv, which ascend in size, that count for FROC and were not found,
    reversed.
    """
    return [row for row in reversed(rows) if row.flag("counted") and not row.flag("found")]


PART = ModelPart(30, read)
