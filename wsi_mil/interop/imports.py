"""Import: features that another tool made become the stores of a run, as if they had been made here."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from wsi_mil.bags.labels import LabelTable, read_labels
from wsi_mil.config import RunConfig, SlidesConfig, save_config, write_provenance
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.execution.activity import activity
from wsi_mil.features import FeatureOrigin
from wsi_mil.interop.foreign import ForeignBag, StatedTiles, tile_table
from wsi_mil.interop.layouts import load_import_layout
from wsi_mil.interop.layouts.base import SlideFiles, find_files
from wsi_mil.io.files import digest_json
from wsi_mil.io.json import write_json
from wsi_mil.io.remote import Location
from wsi_mil.logs import logger
from wsi_mil.run.context import RunSummary
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.killed import killed_its_process, without_killers_of
from wsi_mil.run.lock import locked
from wsi_mil.run.recording import record_outcomes
from wsi_mil.slides import find_slides, open_slide
from wsi_mil.tasks import TaskSpec

ENCODER_PREFIX = "imported:"
ANY_CLASSES = TaskSpec(kind="classification")
"""Only the scales of a label table are read here, so what its classes mean does not matter."""


@dataclass(frozen=True)
class ImportSource:
    """Where the features are, and what the user states about them.

    layout: a name of `wsi_mil.interop.layouts`. slides: the slides, to compare size and scale with. encoder:
    its name, for files that do not state it, or that are to have another one.
    """

    folder: Path
    layout: str
    labels: Path | None = None
    annotations: Path | None = None
    slides: Location | None = None
    encoder: str | None = None
    stated: StatedTiles = field(default_factory=StatedTiles)


@dataclass(frozen=True)
class ImportJob:
    """The import of one slide: picklable values only.

    slide: its file, None if the slide is not available. mpp: overrides the scale that the slide states.
    tiles, encoder: those of the first slide, which all others must share.
    """

    slide_id: str
    run: Path
    layout: str
    files: SlideFiles
    stated: StatedTiles
    tiles: TileSpec
    encoder: str
    encoder_is_stated: bool
    slide: Location | None
    mpp: float | tuple[float, float] | None

    def reads(self) -> list[Location]:
        """Return the files that are read: features, coordinates and the slide."""
        return [
            file for file in (self.files.features, self.files.coordinates, self.slide) if file is not None
        ]


def import_features(run_folder: Path, source: ImportSource) -> RunSummary:
    """Write a store per slide and the run's config.yaml, so that `wsi-mil run RUN` can train on them.

    A slide whose files are damaged, lack coordinates or contradict themselves is a `failed` outcome. What the
    first slide that can be read does not state, no slide states: it raises ConfigError, with the option that
    states it. Raises DataError if no slide can be read.
    Features equal to those imported before count as no work.
    """
    if (run_folder / "config.yaml").exists() and not (run_folder / "import.json").exists():
        raise ConfigError(f"{run_folder} is a run with slides of its own: import into another folder")
    layout = load_import_layout(source.layout)
    found = find_files(layout, source.folder)
    slides = _slide_files(source, next(iter(found)), set(found))
    labels = read_labels(source.labels, spec=ANY_CLASSES) if source.labels else None
    before = RunFolder(run_folder).ledger
    in_order = sorted(found.values(), key=lambda one: killed_its_process(before.get(one.slide_id, "import")))
    config, encoder = _configuration(run_folder, source, _first_readable(source.layout, in_order))
    jobs = [
        ImportJob(
            slide_id=slide_id,
            run=run_folder,
            layout=source.layout,
            files=files,
            stated=source.stated,
            tiles=config.tiles,
            encoder=encoder,
            encoder_is_stated=source.encoder is not None,
            slide=slides.get(slide_id),
            mpp=_mpp(labels, slide_id),
        )
        for slide_id, files in found.items()
    ]
    run = RunFolder(run_folder)
    with locked(run_folder):
        write_provenance(run_folder, config)
        save_config(config, run_folder / "config.yaml")
        write_json(
            run_folder / "import.json", {"kind": "import", "layout": source.layout, "encoder": encoder}
        )
        run.ledger.keep_only(set(found))
        work = partial(map_slides, import_one, stage="import", spec=config.execution)
        outcomes = without_killers_of(run, "import", jobs, work, ImportJob.reads)
        worked = record_outcomes(run, "import", outcomes, len(jobs))
    return RunSummary({"import": worked}, run.ledger.problems())


def _slide_files(source: ImportSource, example: str, slide_ids: set[str]) -> dict[str, Location]:
    """Return the slides by id. Raises DataError if slides were given and none belongs to the features."""
    slides = {file.slide_id: file.path for file in find_slides(source.slides)} if source.slides else {}
    if slides and not set(slides) & slide_ids:
        raise DataError(
            f"no slide below {source.slides} has the id of a feature file: the first feature file has "
            f"{example!r}, the first slide {next(iter(slides))!r}"
        )
    return slides


def _mpp(labels: LabelTable | None, slide_id: str) -> float | tuple[float, float] | None:
    return labels.mpp_of(slide_id) if labels else None


@dataclass(frozen=True)
class _ReadJob:
    slide_id: str
    layout: str
    files: SlideFiles


@dataclass(frozen=True)
class _Read(Outcome):
    bag: ForeignBag | None = None


def _read_first(job: _ReadJob) -> Outcome:
    """Return what the files of a slide state, without their rows."""
    with activity(job.slide_id, "reading the files to import"):
        bag = load_import_layout(job.layout).read(job.files)
    bag = replace(bag, features=bag.features[:0].copy(), coords=bag.coords[:0].copy())
    return _Read(job.slide_id, "import", "done", bag=bag)


def _first_readable(layout: str, found: Sequence[SlideFiles]) -> ForeignBag:
    """Return what the first slide states whose files can be read; its features and coordinates have no rows.

    A worker process reads the files: a library that reads them can end its process. Raises DataError with the
    first problem if no slide can be read.
    """
    jobs = [_ReadJob(files.slide_id, layout, files) for files in found]
    problems: list[Outcome] = []
    with closing(map_slides(_read_first, jobs, stage="import", spec=ExecutionSpec(workers=1))) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, _Read) and outcome.bag is not None:
                return outcome.bag
            problems.append(outcome)
            logger().debug("%s", outcome.traceback)
    first = problems[0]
    raise DataError(
        f"none of {len(found)} slides can be imported; the first, {first.slide_id!r}: {first.reason}"
    )


def _configuration(run_folder: Path, source: ImportSource, bag: ForeignBag) -> tuple[RunConfig, str]:
    """Return the run's configuration and the encoder's name, by one bag and what the user states."""
    geometry = source.stated.geometry(bag)
    encoder = source.encoder or bag.encoder
    if encoder is None:
        raise ConfigError(f"{bag.source} does not state which encoder made it: give --encoder NAME")
    config = RunConfig(
        run=run_folder,
        slides=SlidesConfig(folder=source.slides, labels=source.labels, annotations=source.annotations),
        tiles=geometry.spec,
        encoder=EncoderSpec(name=f"{ENCODER_PREFIX}{encoder}"),
    )
    return config, encoder


def import_one(job: ImportJob) -> Outcome:
    """Write the store of one slide; return its outcome.

    Raises DataError if the slide's files contradict those of the first slide, or the slide itself.
    """
    started = time.perf_counter()
    with activity(job.slide_id, "reading the files to import"):
        bag = load_import_layout(job.layout).read(job.files)
    geometry = job.stated.geometry(bag)
    _check_against_first(job, bag, geometry.spec)
    imported = tile_table(bag, geometry, _info(job))
    table, features = imported.table, bag.features[imported.rows]
    readable = np.asarray(np.isfinite(features).all(1), np.bool_)
    encoder = EncoderSpec(name=f"{ENCODER_PREFIX}{job.encoder}")
    encoder_digest = digest_json(["imported", job.layout, encoder.name, features.shape[1]])
    store = RunFolder(job.run).store(job.slide_id)
    made_from = digest_json(["imported", table.digest(), imported.info.mpp_source])
    if store.made_from() != made_from:
        store.write_tiles(table, imported.info, made_from)
    before = store.stored_features(encoder.key)
    origin = FeatureOrigin({"name": encoder.name}, encoder_digest)
    written = store.write_features(encoder.key, features.shape[1], origin)
    with activity(job.slide_id, "writing features"), written as writer:
        writer.append(features, readable)
    after = store.stored_features(encoder.key)
    return Outcome(
        slide_id=job.slide_id,
        stage="import",
        status="done",
        counts={
            "tiles": len(table),
            "unreadable": int((~readable).sum()),
            "repeated": imported.repeated,
            "overhanging": imported.overhanging,
        },
        digest=after.digest if after else "",
        seconds=time.perf_counter() - started,
        reused=before is not None and after is not None and before.digest == after.digest,
    )


def _info(job: ImportJob) -> SlideInfo | None:
    """Return size and scale of the slide, None if it is not available."""
    if job.slide is None:
        return None
    with open_slide(job.slide, slide_id=job.slide_id, mpp=job.mpp) as slide:
        return slide.info


def _check_against_first(job: ImportJob, bag: ForeignBag, tiles: TileSpec) -> None:
    if tiles != job.tiles:
        raise DataError(
            f"{bag.source}: its tiles are {_described(tiles)}, those of the first file "
            f"{_described(job.tiles)}"
        )
    if bag.encoder not in (None, job.encoder) and not job.encoder_is_stated:
        raise DataError(f"{bag.source} was made by {bag.encoder}, the first file by {job.encoder}")


def _described(spec: TileSpec) -> str:
    return f"{spec.size_px} px at {spec.mpp:g} µm/px, every {spec.step_px} px"
