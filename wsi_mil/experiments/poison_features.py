"""Features of a poisoned slide: tiles with poison are encoded again, the others keep their features."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.qupath import QuPathSpec, qupath_frame
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.shared import shared_encoder
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation import AnnotationRules
from wsi_mil.execution.activity import activity
from wsi_mil.experiments.poison_store import of_poison, poisoned_features, poisoned_store
from wsi_mil.features import PoisonRecord, StoredFeatures, encode_tiles
from wsi_mil.features.tiled import open_tiled
from wsi_mil.geojson import GRID_PX, feature, polygonal, stable_id, write_features
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.io.images import write_jpeg
from wsi_mil.robustness.poison.slide import PoisonedSlide, poison_slide
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.slide_outlines import OutlineJob, outlined_lesions
from wsi_mil.slides import read_scaled

PREVIEW_PX, PREVIEW_QUALITY = 900, 85
POISON_COLOUR = (40, 190, 60)


@dataclass(frozen=True)
class PoisonJob:
    """Everything that a worker process needs for a slide.

    outline: the file of its lesions, None without. features_digest: of the clean features.
    """

    slide_id: str
    positive: bool
    source: SlideSource
    reader: str
    run: Path
    spec: PoisonSpec
    encoder: EncoderSpec
    features_digest: str
    outline: Path | None
    rules: AnnotationRules
    qupath: QuPathSpec
    device: str
    threads: int
    preview: bool
    needs_gpu: bool = False


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
    found = poisoned_features(run, job.spec, job.slide_id, key)
    if found is not None and found.origin.poison is not None and found.origin.poison.made_from == made_from:
        counts = dict(found.origin.poison.counts)
        return Outcome(job.slide_id, "poison", "done", "", counts, found.digest, reused=True)
    counts, digest = _write_features(job, original, outline, made_from)
    return Outcome(job.slide_id, "poison", "done", "", counts, digest, time.perf_counter() - started)


def _outline_to_spare(job: PoisonJob) -> Path | None:
    """Return the file of outlines that the poison must not touch, None if it may lie anywhere.

    Raises DataError if there is no such file.
    """
    if not job.positive or job.spec.placement != "off_tumour":
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
        read = outlined_lesions(OutlineJob(job.slide_id, job.run, outline, job.rules))
        lesions = shapely.union_all([lesion.geometry for lesion in read])
    encoder = shared_encoder(job.encoder, job.device)
    with open_tiled(job.source, job.reader, clean) as slide:
        with activity(job.slide_id, "painting"):
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
        slide.check_unchanged()
        if job.preview:
            _write_preview(of_poison(run, job.spec, f"previews/{job.slide_id}.jpg"), poisoned)
        _write_places(job, poisoned)
        touched = int((poisoned.plan.share_of_tiles(table) > 0).sum())
        counts = {"tiles": len(table), "poisoned": touched, "encoded": len(rows)}
        store.write_tiles(table, slide.info, clean.made_from() or "")
    poison = PoisonRecord(job.spec.painted(), made_from, counts)
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
        "spec": job.spec.painted(),
    }
    path = of_poison(RunFolder(job.run), job.spec, f"places/{info.slide_id}.geojson")
    write_features(path, items, header, job.qupath.version)


def _write_preview(path: Path, poisoned: PoisonedSlide) -> None:
    """Write a JPEG of the whole poisoned slide."""
    info = poisoned.info
    longer_um = max(info.width_px * info.mpp_x, info.height_px * info.mpp_y)
    picture = read_scaled(poisoned, max(longer_um / PREVIEW_PX, info.mpp))
    write_jpeg(path, picture, PREVIEW_QUALITY)
