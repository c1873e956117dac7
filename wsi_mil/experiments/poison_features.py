"""Features of poisoned slides: the tiles that the poison touches are encoded again, the others keep their
features.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely

from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.qupath import BoundsMode, QuPathSpec, qupath_frame
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.shared import shared_encoder
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation import AnnotationFolder, read_annotations
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.features import PoisonRecord, SlideStore, StoredFeatures, encode_tiles
from wsi_mil.geojson import GRID_PX, feature, polygonal, stable_id, write_features
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.io.images import write_jpeg
from wsi_mil.robustness.poison.slide import PoisonedSlide, poison_slide
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.recording import record_outcomes
from wsi_mil.slides import open_slide, read_scaled

PREVIEWS = 4
PREVIEW_PX, PREVIEW_QUALITY = 900, 85
POISON_COLOUR = (40, 190, 60)


@dataclass(frozen=True)
class PoisonJob:
    """One slide: everything that a worker process needs. outline: the file with the outlines of its
    lesions.
    """

    slide_id: str
    label: int
    source: SlideSource
    reader: str
    run: Path
    spec: PoisonSpec
    encoder: EncoderSpec
    outline: Path | None
    bounds: BoundsMode
    qupath: QuPathSpec
    device: str
    threads: int
    preview: bool


def poison_folder(run: RunFolder, spec: PoisonSpec) -> Path:
    """Return the folder of one poison of a run."""
    return run.path / "poison" / f"{spec.title}-{spec.digest()[:6]}"


def poisoned_store(run: RunFolder, spec: PoisonSpec, slide_id: str) -> SlideStore:
    """Return the store of a poisoned slide; it has the layout and the tile table of the slide's own store."""
    return SlideStore(poison_folder(run, spec) / "slides" / f"{slide_id}.zarr", slide_id)


def poison_one(job: PoisonJob) -> Outcome:
    """Write the features of one slide under the poison, unless they exist already."""
    started = time.perf_counter()
    run, key = RunFolder(job.run), job.encoder.key
    original = run.store(job.slide_id).stored_features(key)
    if original is None:
        raise StoreError(f"slide {job.slide_id!r} has no {key} features: run `wsi-mil extract`")
    outline = _outline_to_spare(job)
    parts = [
        job.spec.digest(),
        original.digest,
        original.tiles_digest,
        digest_file(outline) if outline else "",
    ]
    made_from = digest_json(parts)
    found = poisoned_store(run, job.spec, job.slide_id).stored_features(key)
    if found is not None and found.origin.poison is not None and found.origin.poison.made_from == made_from:
        counts = dict(found.origin.poison.counts)
        return Outcome(job.slide_id, "poison", "done", "", counts, found.digest, reused=True)
    counts, digest = _write_features(job, original, outline, made_from)
    return Outcome(job.slide_id, "poison", "done", "", counts, digest, time.perf_counter() - started)


def _outline_to_spare(job: PoisonJob) -> Path | None:
    """The outlines that the poison must not touch. Raises DataError if they are needed and there are none."""
    if not job.label or job.spec.placement != "off_tumour":
        return None
    if job.outline is None:
        raise DataError(
            f"slide {job.slide_id!r} is labelled tumour and has no outline, so poison cannot be kept off its "
            "tumour: give slides.annotations, or poison.placement=anywhere"
        )
    return job.outline


def _write_features(
    job: PoisonJob, original: StoredFeatures, outline: Path | None, made_from: str
) -> tuple[dict[str, int], str]:
    """Paint, encode the changed tiles and write the store, preview and places; return counts and digest."""
    run, key = RunFolder(job.run), job.encoder.key
    clean, store = run.store(job.slide_id), poisoned_store(run, job.spec, job.slide_id)
    table, features = clean.read_tiles(), clean.read_features(key)
    lesions = None
    if outline is not None:
        read = read_annotations(outline, job.slide_id, clean.read_info(), job.bounds)
        lesions = shapely.union_all([lesion.geometry for lesion in read])
    encoder = shared_encoder(job.encoder, job.device)
    with open_slide(job.source.file, slide_id=job.slide_id, reader=job.reader, mpp=job.source.mpp) as slide:
        poisoned = poison_slide(slide, table, job.spec, lesions)
        values, readable = features.features.copy(), features.readable.copy()
        rows = np.flatnonzero(poisoned.plan.changed_tiles(table))
        if len(rows):
            # the stain normalisation of the clean slide, because the unchanged tiles keep its features
            part = encode_tiles(
                poisoned,
                tiles_at(table, rows),
                encoder,
                batch_size=job.encoder.batch_size,
                threads=job.threads,
                colours=original.origin.colours,
            )
            values[rows], readable[rows] = part.features, part.readable
        if job.preview:
            _write_preview(poison_folder(run, job.spec) / "previews" / f"{job.slide_id}.jpg", poisoned)
        _write_places(job, poisoned)
        touched = int((poisoned.plan.share_of_tiles(table) > 0).sum())
        counts = {"tiles": len(table), "poisoned": touched, "encoded": len(rows)}
        store.write_tiles(table, slide.info, clean.made_from() or "")
    poison = PoisonRecord(job.spec.model_dump(mode="json"), made_from, counts)
    origin = replace(original.origin, colours=(), poison=poison)
    with store.write_features(key, values.shape[1], origin) as writer:
        writer.append(values, readable)
    written = store.stored_features(key)
    return counts, written.digest if written else ""


def tiles_at(table: TileTable, rows: np.ndarray) -> TileTable:
    """Return the table of some of the tiles, `rows` ascending."""
    return replace(table, coords=table.coords[rows], tissue=table.tissue[rows])


def _write_places(job: PoisonJob, poisoned: PoisonedSlide) -> None:
    """Write the poisoned area as GeoJSON in QuPath's coordinates, to be dragged onto the slide."""
    info, title = poisoned.info, job.spec.title
    frame = qupath_frame(info, job.qupath.bounds)
    moved = shapely.transform(poisoned.plan.area, lambda xy: xy - np.array(frame.offset_px))
    area = polygonal(shapely.intersection(moved, shapely.box(0, 0, *frame.size_px)), GRID_PX)
    items = []
    if not area.is_empty:
        uid = stable_id(info.slide_id, "poison", job.spec.digest())
        items = [
            feature(
                area, object_type="annotation", uid=uid, class_name="Poison", colour=POISON_COLOUR, name=title
            )
        ]
    header = {
        "kind": "poison",
        "format": 1,
        "slide_id": info.slide_id,
        "slide_size_px": [info.width_px, info.height_px],
        **frame.header(),
        "spec": job.spec.model_dump(mode="json"),
    }
    path = poison_folder(RunFolder(job.run), job.spec) / "places" / f"{info.slide_id}.geojson"
    write_features(path, items, header, job.qupath.version)


def _write_preview(path: Path, poisoned: PoisonedSlide) -> None:
    info = poisoned.info
    longer_um = max(info.width_px * info.mpp_x, info.height_px * info.mpp_y)
    picture = read_scaled(poisoned, max(longer_um / PREVIEW_PX, info.mpp))
    write_jpeg(path, picture, PREVIEW_QUALITY)


def run_poison_features(
    run: RunFolder,
    slides: Sequence[SlideSource],
    labels: Mapping[str, SlideLabel],
    reader: str,
    annotations: AnnotationFolder | None,
    spec: PoisonSpec,
    encoder: EncoderSpec,
    execution: ExecutionSpec,
    qupath: QuPathSpec,
) -> list[str]:
    """Write the poisoned features of all labelled slides that have clean ones.

    Returns the ids of the slides that have both. Raises EncoderError if the encoder cannot be loaded.
    """
    shared_encoder(encoder, execution.device)  # a missing encoder fails here once, not for each slide
    usable = [s for s in slides if s.slide_id in labels]
    shown = [s.slide_id for s in usable if labels[s.slide_id].label == 0][: PREVIEWS // 2]
    shown += [s.slide_id for s in usable if labels[s.slide_id].label][: PREVIEWS // 2]
    jobs = [
        PoisonJob(
            slide_id=source.slide_id,
            label=labels[source.slide_id].label or 0,
            source=source,
            reader=reader,
            run=run.path,
            spec=spec,
            encoder=encoder,
            outline=annotations.find(source.slide_id) if annotations else None,
            bounds=annotations.bounds if annotations else "auto",
            qupath=qupath,
            device=execution.device,
            threads=execution.resolved_threads(),
            preview=source.slide_id in shown,
        )
        for source in usable
    ]
    one = execution if execution.backend == "dask" else execution.model_copy(update={"workers": 1})
    record_outcomes(run, "poison", map_slides(poison_one, jobs, stage="poison", spec=one), len(jobs))
    return [job.slide_id for job in jobs if _is_current(run, spec, encoder.key, job.slide_id)]


def _is_current(run: RunFolder, spec: PoisonSpec, key: str, slide_id: str) -> bool:
    row = run.ledger.get(slide_id, "poison")
    stored = poisoned_store(run, spec, slide_id).stored_features(key)
    return stored is not None and row is not None and row.status == "done" and stored.readable_rows > 0
