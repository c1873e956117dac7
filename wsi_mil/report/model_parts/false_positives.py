"""The most probable false positives of one model, with a picture of the tissue around each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from wsi_mil.errors import WsiMilError
from wsi_mil.evaluation.lesion_tables import score01_of
from wsi_mil.io.files import digest_file
from wsi_mil.io.tables import Row, read_csv
from wsi_mil.logs import logger
from wsi_mil.report.crops import tissue_crop
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill
from wsi_mil.slides import open_slide

SHOWN = 12


@dataclass(frozen=True)
class FalsePositive:
    """A detection at or above the threshold that hits no lesion; level-0 px, and a JPEG of the
    tissue there.
    """

    slide_id: str
    x0_px: int
    y0_px: int
    score01: float
    jpeg: bytes


def read(source: ReportSource, name: str) -> Content | None:
    metrics = source.metrics.get(name)
    if metrics is None or metrics.froc.facts is None:
        return None
    count = metrics.froc.facts.false_positives_at_threshold
    path = source.evaluation_file(name, "false_positives.csv")
    rows = read_csv(path)[:SHOWN] if path else []
    return Content(
        [count, digest_file(path) if path and rows else None],
        lambda: fill(__file__, count=count, crops=false_positives(source, rows)),
    )


def false_positives(source: ReportSource, rows: Sequence[Row]) -> list[FalsePositive]:
    """Return the rows of false_positives.csv with their pictures, most probable first.

    A slide whose file is not there any more is left out; one that cannot be read is left out with a warning.
    """
    by_id = {slide.slide_id: slide for slide in source.slides}
    found = []
    for slide_id, group in groupby(sorted(rows, key=_slide_id), key=_slide_id):
        slide = by_id.get(slide_id)
        if slide is None or slide.path is None:
            continue
        try:
            table = source.run.store(slide_id).read_tiles()
            with open_slide(slide.path, slide_id=slide_id, reader=source.reader, mpp=slide.mpp) as opened:
                for row in group:
                    x0_px, y0_px = round(row.number("x0_px")), round(row.number("y0_px"))
                    jpeg = tissue_crop(opened, table, x0_px, y0_px)
                    found.append(FalsePositive(slide_id, x0_px, y0_px, score01_of(row), jpeg))
        except WsiMilError as error:
            logger().warning("report: no pictures of false positives on slide %s: %s", slide_id, error)
    return sorted(found, key=lambda crop: -crop.score01)


def _slide_id(row: Row) -> str:
    return row["slide_id"]


PART = ModelPart(40, read)
