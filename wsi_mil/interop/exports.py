"""Export: the features of a run, in the layouts of other tools."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.bags.labels import LabelTable
from wsi_mil.config import RunConfig
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation import lesions_or_unknown, tile_overlap
from wsi_mil.execution import map_slides
from wsi_mil.execution.activity import activity
from wsi_mil.interop.layouts import load_export_layout
from wsi_mil.interop.layouts.base import ExportedSlide, flat_name
from wsi_mil.io.files import refuse_to_replace
from wsi_mil.io.remote import Location
from wsi_mil.io.tables import write_csv
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext, open_run
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.killed import without_killers_of
from wsi_mil.run.lock import locked
from wsi_mil.run.recording import record_outcomes
from wsi_mil.scoring import read_tile_scores
from wsi_mil.tasks import Detection

LABEL_COLUMNS = ["slide_id", "bag", "case_id", "label", "is_positive"]


@dataclass(frozen=True)
class ExportJob:
    """The export of one slide: picklable values only. label: index of its class, None if
    it has none. positive: whether the class is a positive one."""

    slide_id: str
    config: RunConfig
    label: int | None
    positive: bool
    layout: str
    out: Path

    def reads(self) -> list[Location]:
        """Return what is read: the store of the slide and its outlines."""
        found: list[Location] = [RunFolder(self.config.run).store(self.slide_id).path]
        if self.config.annotations is not None and self.positive:
            found += self.config.annotations.find_all(self.slide_id)
        return found


def export_features(config: RunConfig, out: Path, layout: str) -> list[Outcome]:
    """Write every slide that has features below `out`, labels.csv and outcomes.csv; return the outcomes.

    labels.csv has the columns slide_id, bag (the slide's name for tools that know no folders), case_id (the
    patient), label, and is_positive: 1 or 0 as the run's labels say, empty without a normal class. Raises
    StoreError if there is no run, DataError if no slide has features of the run's encoder.
    """
    load_export_layout(layout)  # an unknown name or a missing package is an error before any work
    if not (config.run / "config.yaml").is_file():
        raise StoreError(f"no run at {config.run}: run `wsi-mil extract` first")
    with locked(config.run):
        context = open_run(config)
    exported = _claimed(out)
    slide_ids = _with_features(context)
    task = context.labels.task if context.labels else Detection()
    jobs = [
        ExportJob(name, config, label, task.is_positive(label), layout, out)
        for name in slide_ids
        for label in [_label(context.labels, name)]
    ]
    work = partial(map_slides, export_one, stage="export", spec=config.execution)
    outcomes = without_killers_of(exported, "export", jobs, work, ExportJob.reads)
    record_outcomes(exported, "export", outcomes, len(jobs))
    ledger = exported.ledger
    write_csv(out / "labels.csv", LABEL_COLUMNS, [_label_row(context.labels, name) for name in slide_ids])
    return [row for name in slide_ids if (row := ledger.get(name, "export")) is not None]


def _claimed(out: Path) -> RunFolder:
    """Return the folder of an export, with an outcomes.csv: the sign that its files may be replaced.

    Raises StoreError for a folder with files whose outcomes.csv is missing, or is that of a run.
    """
    exported = RunFolder(out)  # outcomes.csv and errors/ are those of a run folder
    ledger = exported.ledger
    if not ledger.path.exists() or ledger.damaged or len(ledger.rows()) > len(ledger.rows("export")):
        refuse_to_replace(out)
    ledger.save()
    return exported


def _with_features(context: RunContext) -> list[str]:
    """Return the slides that have features of the run's encoder. Raises DataError if there is none."""
    run, key = context.run, context.config.encoder.key
    found = [
        slide_id for slide_id in context.slide_ids if run.store(slide_id).stored_features(key) is not None
    ]
    if not found:
        raise DataError(f"no slide of {run.path} has {key} features: run `wsi-mil extract` first")
    if missing := len(context.slide_ids) - len(found):
        logger().warning(
            "export: %d slide%s without features left out: see outcomes.csv",
            missing,
            "s" if missing > 1 else "",
        )
    return found


def export_one(job: ExportJob) -> Outcome:
    """Write one slide in the layout of the job; return its outcome with the numbers of tiles and files."""
    started = time.perf_counter()
    with activity(job.slide_id, "reading features"):
        slide = _read_slide(job)
    with activity(job.slide_id, "writing its files"):
        files = load_export_layout(job.layout).write(slide, job.out)
    counts = {"tiles": int(slide.features.readable.sum()), "files": len(files)}
    seconds = time.perf_counter() - started
    return Outcome(job.slide_id, "export", "done", "", counts, slide.features.digest, seconds)


def _read_slide(job: ExportJob) -> ExportedSlide:
    run, config = RunFolder(job.config.run), job.config
    store = run.store(job.slide_id)
    info, table, features = store.read_info(), store.read_tiles(), store.read_features(config.encoder.key)
    columns: dict[str, NDArray[np.float32]] = {}
    for name in config.models:
        path = run.tile_scores(name, job.slide_id)
        if path.exists():
            scores = read_tile_scores(path)
            if scores.tiles_digest == table.digest():
                columns[f"score_{name}"] = scores.tile_scores
                columns[f"scaled_{name}"] = scores.tile_scores01()
    return ExportedSlide(info, table, features, job.label, _truth(job, info, table), columns)


def _truth(job: ExportJob, info: SlideInfo, table: TileTable) -> NDArray[np.bool_] | None:
    """Return which tiles lie in a lesion, (N,); None for a slide without a label or without annotations."""
    annotations = job.config.annotations
    if annotations is None or job.label is None:
        return None
    if not job.positive:
        return np.zeros(len(table), bool)
    path = annotations.find(job.slide_id)
    with activity(job.slide_id, "reading its outlines"):
        lesions = lesions_or_unknown(path, job.slide_id, info, annotations.rules, "the labels of tiles")
    if lesions is None:
        return None
    return tile_overlap(table, lesions) >= job.config.evaluation.patch_overlap


def _label(labels: LabelTable | None, slide_id: str) -> int | None:
    row = labels.rows.get(slide_id) if labels else None
    return row.label if row else None


def _label_row(labels: LabelTable | None, slide_id: str) -> tuple[str, str, str, str, str]:
    """Return the slide's row of labels.csv; the label is the name of its class, empty if it has none."""
    row = labels.rows.get(slide_id) if labels else None
    label, positive = "", ""
    if labels and row and row.label is not None:
        label = labels.class_names[row.label]
        scheme = labels.scheme
        positive = str(int(scheme.is_positive(row.label))) if scheme and scheme.has_negative else ""
    return slide_id, flat_name(slide_id), row.patient if row else slide_id, label, positive
