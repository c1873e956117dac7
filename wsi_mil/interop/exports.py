"""export: the features of a run, in the layouts of other tools."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.bags.labels import LabelTable
from wsi_mil.config import RunConfig
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation import read_annotations, tile_overlap
from wsi_mil.interop.layouts import ExportedSlide, export_slide, flat_name
from wsi_mil.io.tables import write_csv
from wsi_mil.logs import logger, progress
from wsi_mil.run.context import open_run
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import locked
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.scoring import read_tile_scores


def export_features(config: RunConfig, out: Path, layout: str) -> list[Outcome]:
    """Write every slide that has features below `out`, and labels.csv (slide, bag, patient, label); return the outcomes.

    Raises DataError if no slide has features of the run's encoder.
    """
    if not (config.run / "config.yaml").is_file():
        raise StoreError(f"no run at {config.run}: run `wsi-mil extract` first")
    with locked(config.run):
        context = open_run(config)
    run, key = context.run, config.encoder.key
    having = [
        slide_id for slide_id in context.slide_ids if run.store(slide_id).stored_features(key) is not None
    ]
    if not having:
        raise DataError(f"no slide of {run.path} has {key} features: run `wsi-mil extract` first")
    if left := len(context.slide_ids) - len(having):
        logger().warning(
            "export: %d slide%s without features left out: see outcomes.csv", left, "s" if left > 1 else ""
        )
    outcomes = []
    for slide_id in progress(having, total=len(having), label=f"export {layout}"):
        started = time.perf_counter()
        slide = _slide(run, config, slide_id, context.labels)
        files = export_slide(slide, out, layout)
        counts = {"tiles": int(slide.features.readable.sum()), "files": len(files)}
        seconds = time.perf_counter() - started
        outcomes.append(Outcome(slide_id, "export", "done", "", counts, slide.features.digest, seconds))
    _write_labels(out / "labels.csv", having, context.labels)
    ledger = OutcomeTable(out / "outcomes.csv")
    for outcome in outcomes:
        ledger.put(outcome)
    ledger.save()
    return outcomes


def _slide(run: RunFolder, config: RunConfig, slide_id: str, labels: LabelTable | None) -> ExportedSlide:
    store = run.store(slide_id)
    info, table, features = store.read_info(), store.read_tiles(), store.read_features(config.encoder.key)
    row = labels.rows.get(slide_id) if labels else None
    truth: NDArray[np.bool_] | None = None
    columns: dict[str, NDArray[np.float32]] = {}
    if config.annotations is not None and row is not None and row.label is not None:
        path = config.annotations.find(slide_id) if row.label > 0 else None
        if row.label == 0:
            truth = np.zeros(len(table), bool)
        elif path is not None:
            lesions = read_annotations(path, slide_id, info, config.annotations.bounds)
            truth = tile_overlap(table, lesions) >= config.evaluation.patch_overlap
    for name in config.models:
        path = run.tile_scores(name, slide_id)
        if path.exists():
            scores = read_tile_scores(path)
            if scores.tiles_digest == table.digest():
                columns |= {
                    f"score_{name}": scores.tile_scores,
                    f"scaled_{name}": scores.tile_scores01(),
                }
    return ExportedSlide(info, table, features, row.label if row else None, truth, columns)


def _write_labels(path: Path, slide_ids: list[str], labels: LabelTable | None) -> None:
    rows = []
    for slide_id in slide_ids:
        row = labels.rows.get(slide_id) if labels else None
        label = labels.class_names[row.label] if labels and row and row.label is not None else ""
        rows.append((slide_id, flat_name(slide_id), row.patient if row else slide_id, label))
    write_csv(path, ["slide_id", "bag", "case_id", "label"], rows)
