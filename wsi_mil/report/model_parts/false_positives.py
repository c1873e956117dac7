"""The most probable false positives of one model, with a picture of the tissue around each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from wsi_mil.contracts.slide import SlideSource
from wsi_mil.evaluation.lesion_tables import score01_of
from wsi_mil.execution import read_slides
from wsi_mil.execution.activity import activity
from wsi_mil.features.tiled import open_tiled
from wsi_mil.io.files import digest_file
from wsi_mil.io.tables import Row, read_csv
from wsi_mil.logs import logger
from wsi_mil.report.crops import tissue_crop
from wsi_mil.report.section import Content, ModelPart
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill
from wsi_mil.run.folder import RunFolder

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


@dataclass(frozen=True)
class _CropJob:
    """What `_crops` needs, in values that pickle. places_px: level-0 (x, y) of the pictures of one slide."""

    slide_id: str
    run: Path
    source: SlideSource
    reader: str
    places_px: tuple[tuple[int, int], ...]


def false_positives(source: ReportSource, rows: Sequence[Row]) -> list[FalsePositive]:
    """Return the rows of false_positives.csv with their pictures, most probable first.

    A slide whose file is not there any more is left out; one that cannot be read is left out with a warning.
    The slides are opened by worker processes of this machine: a library that reads slides can end its
    process.
    """
    by_id = {slide.slide_id: slide for slide in source.slides if slide.path is not None}
    grouped = groupby(sorted(rows, key=_slide_id), key=_slide_id)
    chosen = {slide_id: list(group) for slide_id, group in grouped if slide_id in by_id}
    jobs = [
        _CropJob(slide_id, source.run.path, by_id[slide_id], source.reader, tuple(map(_place_px, group)))
        for slide_id, group in chosen.items()
    ]
    jpegs, failed = read_slides(_crops, jobs, stage="report", spec=source.execution.on_this_machine())
    for slide_id, outcome in failed.items():
        logger().warning("report: no pictures of false positives on slide %s: %s", slide_id, outcome.reason)
    found = [
        FalsePositive(slide_id, *_place_px(row), score01_of(row), jpeg)
        for slide_id, pictures in jpegs.items()
        for row, jpeg in zip(chosen[slide_id], pictures, strict=True)
    ]
    return sorted(found, key=lambda crop: -crop.score01)


def _crops(job: _CropJob) -> list[bytes]:
    """Return a JPEG of the tissue at each place of one slide."""
    store = RunFolder(job.run).store(job.slide_id)
    table, slide = store.read_tiles(), open_tiled(job.source, job.reader, store)
    with slide, activity(job.slide_id, "reading pictures of false positives"):
        return [tissue_crop(slide, table, x0_px, y0_px) for x0_px, y0_px in job.places_px]


def _place_px(row: Row) -> tuple[int, int]:
    return round(row.number("x0_px")), round(row.number("y0_px"))


def _slide_id(row: Row) -> str:
    return row["slide_id"]


PART = ModelPart(40, read)
