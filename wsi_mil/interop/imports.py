"""import: other tools' features become the stores of a run, as if they had been tiled and extracted here."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wsi_mil.bags.labels import LabelTable, read_labels
from wsi_mil.config import RunConfig, SlidesConfig, save_config, write_provenance
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.features import FeatureOrigin
from wsi_mil.interop.foreign import Asked, ForeignBag, find_bags, tile_table
from wsi_mil.io.files import digest_json
from wsi_mil.io.json import write_json
from wsi_mil.io.remote import Location
from wsi_mil.run.context import RunSummary
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import locked
from wsi_mil.run.recording import record_outcomes
from wsi_mil.slides import find_slides, open_slide


@dataclass(frozen=True)
class ImportSource:
    """Where foreign features lie and what goes with them."""

    folder: Path
    layout: str
    labels: Path | None = None
    annotations: Path | None = None
    slides: Location | None = None
    encoder: str | None = None
    asked: Asked = field(default_factory=Asked)


def import_features(run_folder: Path, source: ImportSource) -> RunSummary:
    """Write a store per slide and the run's config.yaml; `wsi-mil run RUN` goes on from there.

    Slides whose file is damaged or contradicts itself are `failed` outcomes; a missing attribute, which would hold for all
    of them, is one error. Features equal to those
    imported before are no work.
    """
    if (run_folder / "config.yaml").exists() and not (run_folder / "import.json").exists():
        raise ConfigError(f"{run_folder} is a run with slides of its own: import into another folder")
    found = find_bags(source.folder, source.layout)
    files = {file.slide_id: file.path for file in find_slides(source.slides)} if source.slides else {}
    if files and not set(files) & set(found):
        raise DataError(
            f"no slide below {source.slides} has the id of a feature file; the files say {next(iter(found))!r}, the slides "
            f"{next(iter(files))!r}"
        )
    labels = read_labels(source.labels) if source.labels else None
    first = source.asked.complete(next(iter(found.values()))())
    encoder = source.encoder or first.encoder
    if encoder is None:
        raise ConfigError(f"{first.source} does not say which encoder made it: give --encoder NAME")
    spec = EncoderSpec(name=f"imported:{encoder}")
    config = RunConfig(
        run=run_folder,
        slides=SlidesConfig(folder=source.slides, labels=source.labels, annotations=source.annotations),
        tiles=_tile_spec(first),
        encoder=spec,
    )
    run = RunFolder(run_folder)
    with locked(run_folder):
        write_provenance(run_folder, config)
        save_config(config, run_folder / "config.yaml")
        write_json(
            run_folder / "import.json", {"kind": "import", "layout": source.layout, "encoder": encoder}
        )
        run.ledger.keep_only(set(found))
        jobs = [
            ImportJob(slide_id, run, read, files.get(slide_id), labels, source, config)
            for slide_id, read in found.items()
        ]
        outcomes = map_slides(import_one, jobs, stage="import", spec=ExecutionSpec(workers=1))
        worked = record_outcomes(run, "import", outcomes, len(jobs))
    return RunSummary({"import": worked}, run.ledger.problems())


def _tile_spec(bag: ForeignBag) -> TileSpec:
    size_px, overlap_px = int(bag.patch_px or 0), int(bag.overlap_px or 0)
    stride_px = size_px - overlap_px
    return TileSpec(
        mpp=float(bag.tile_mpp or 0), size_px=size_px, stride_px=stride_px, min_tissue_fraction=0.0
    )


@dataclass(frozen=True)
class ImportJob:
    """One slide's import, done in this process. `read` returns its features and coordinates."""

    slide_id: str
    run: RunFolder
    read: Callable[[], ForeignBag]
    slide: Location | None
    labels: LabelTable | None
    source: ImportSource
    config: RunConfig


def import_one(job: ImportJob) -> Outcome:
    """Write the store of one slide. Raises DataError if its file contradicts the first file or the slide."""
    slide_id, source, config, labels = job.slide_id, job.source, job.config, job.labels
    started = time.perf_counter()
    bag = source.asked.complete(job.read())
    if (spec := _tile_spec(bag)) != config.tiles:
        raise DataError(
            f"{bag.source}: its tiles are {_told(spec)}, those of the first file {_told(config.tiles)}"
        )
    if bag.encoder not in (None, config.encoder.name.partition(":")[2]) and source.encoder is None:
        raise DataError(
            f"{bag.source} was made by {bag.encoder}, the first file by {config.encoder.name[9:]}"
        )
    info = None
    if job.slide is not None:
        with open_slide(
            job.slide, slide_id=slide_id, mpp=labels.mpp_of(slide_id) if labels else None
        ) as opened:
            info = opened.info
    table, info, rows, left_out = tile_table(bag, info)
    features = bag.features[rows]
    readable = np.asarray(np.isfinite(features).all(1), np.bool_)
    encoder_digest = digest_json(["imported", source.layout, config.encoder.name, features.shape[1]])
    store = job.run.store(slide_id)
    made_from = digest_json(["imported", table.digest(), info.mpp_source])
    if store.made_from() != made_from:
        store.write_tiles(table, info, made_from)
    before = store.stored_features(config.encoder.key)
    origin = FeatureOrigin({"name": config.encoder.name}, encoder_digest)
    with store.write_features(config.encoder.key, features.shape[1], origin) as writer:
        writer.append(features, readable)
    after = store.stored_features(config.encoder.key)
    digest = after.digest if after else ""
    reused = before is not None and before.digest == digest
    counts = {"tiles": len(table), "unreadable": int((~readable).sum()), **left_out}
    seconds = time.perf_counter() - started
    return Outcome(slide_id, "import", "done", "", counts, digest, seconds, reused)


def _told(spec: TileSpec) -> str:
    return f"{spec.size_px} px at {spec.mpp:g} µm/px, every {spec.step_px} px"
