"""The heatmaps of one model beside the slides, the largest probability or prediction first."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.heatmaps.classes import mapped_classes
from wsi_mil.io.files import digest_file
from wsi_mil.io.seals import current_digest, require_digest
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill, image_uri

SHOWN = 24
SHOWN_CLASSES = 6
PREVIEW_PX, HEATMAP_PX = 420, 620


@dataclass(frozen=True)
class Pair:
    """A slide's thumbnail and heatmaps as data URIs, with what the model says of it.

    prediction: in words, where the task is not detection. overlays: (what it shows, picture) of each heatmap.
    """

    slide_id: str
    label: str
    number: float
    detection: bool
    predicted: bool
    prediction: str
    preview: str
    overlays: list[tuple[str, str]]


def read(source: ReportSource, name: str) -> Content | None:
    run = source.run
    ordered = sorted(source.scores[name].values(), key=lambda row: (-row.shown, row.slide_id))
    drawn = (row for row in ordered if run.heatmap(name, row.slide_id, "png").exists())
    rows = list(islice(drawn, SHOWN))
    if not rows:
        return None
    refined = name in source.refinements
    inputs = [
        run.read_index(name),
        digest_file(run.slide_scores(name)),
        refined,
        [row.slide_id for row in rows],
    ]

    def render() -> str:
        several = bool(mapped_classes(source.scheme(name)))
        digests = run.heatmap_digests(name)
        pairs = [_pair(source, name, row, digests) for row in rows]
        return fill(__file__, refined=refined, several=several, pairs=pairs)

    return Content(inputs, render)


def _pair(source: ReportSource, name: str, row: SlideScoreRow, digests: Mapping[str, str]) -> Pair:
    run, preview, scheme = source.run, source.run.preview(row.slide_id), source.scheme(name)
    overlays = [
        (f"heatmap of class {class_name} of", run.class_heatmap(name, class_name, row.slide_id, "png"))
        for class_name in mapped_classes(scheme)[:SHOWN_CLASSES]
    ]
    if row.prediction is None or not overlays:
        overlays.insert(0, ("heatmap of", run.heatmap(name, row.slide_id, "png")))
    for _, path in overlays:
        expected = digests.get(path.relative_to(run.path).as_posix())
        if expected is not None and path.exists():
            require_digest(path, expected, current_digest(path) or "none", "run `wsi-mil heatmap`")
    return Pair(
        row.slide_id,
        source.label(row.slide_id),
        row.shown,
        row.prediction is None,
        row.predicted,
        scheme.class_names[int(row.prediction)] if scheme and row.prediction is not None else "",
        image_uri(preview, PREVIEW_PX) if preview.exists() else "",
        [(what, image_uri(path, HEATMAP_PX)) for what, path in overlays if path.exists()],
    )


PART = ModelPart(50, read, version=2)
