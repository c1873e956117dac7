"""The heatmaps of one model beside the slides, the largest probability or prediction first."""

from dataclasses import dataclass
from pathlib import Path

from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.io.files import digest_file
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill, image_uri

SHOWN = 24
PREVIEW_PX, HEATMAP_PX = 420, 620


@dataclass(frozen=True)
class Pair:
    """A slide's thumbnail and heatmap as data URIs, with what the model says of it."""

    slide_id: str
    label: str
    number: float
    detection: bool
    predicted: bool
    preview: str
    overlay: str


def read(source: ReportSource, name: str) -> Content | None:
    run = source.run
    drawn = [row for row in source.scores[name].values() if run.heatmap(name, row.slide_id, "png").exists()]
    rows = sorted(drawn, key=lambda row: (-row.shown, row.slide_id))[:SHOWN]
    if not rows:
        return None
    refined = name in source.refinements
    inputs = [
        run.read_index(name),
        digest_file(run.slide_scores(name)),
        refined,
        [row.slide_id for row in rows],
    ]
    return Content(
        inputs, lambda: fill(__file__, refined=refined, pairs=[_pair(source, name, row) for row in rows])
    )


def _pair(source: ReportSource, name: str, row: SlideScoreRow) -> Pair:
    preview: Path = source.run.preview(row.slide_id)
    return Pair(
        row.slide_id,
        source.label(row.slide_id),
        row.shown,
        row.prediction is None,
        row.predicted,
        image_uri(preview, PREVIEW_PX) if preview.exists() else "",
        image_uri(source.run.heatmap(name, row.slide_id, "png"), HEATMAP_PX),
    )


PART = ModelPart(50, read)
