"""heatmap: draw an overlay, a pyramid and GeoJSON of every scored slide."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.qupath import QuPathFrame, qupath_frame
from wsi_mil.contracts.score_kinds import score_kind
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import DataError
from wsi_mil.evaluation.detections import detections_of
from wsi_mil.execution import map_slides, stopped_at_the_end
from wsi_mil.execution.activity import activity
from wsi_mil.features import SlideStore
from wsi_mil.features.tiled import open_tiled
from wsi_mil.geojson import Feature, write_features
from wsi_mil.heatmaps import (
    contour_features,
    detection_features,
    draw_overlay,
    score_raster,
    shown_tiles,
    tile_features,
    write_score_pyramid,
)
from wsi_mil.heatmaps.classes import MAJORITY, class_colour, class_raster, mapped_classes
from wsi_mil.heatmaps.raster import ScoreRaster
from wsi_mil.heatmaps.refined import read_refined, refined_raster
from wsi_mil.heatmaps.spec import HeatmapSpec
from wsi_mil.io.files import digest_file, remove, write_bytes
from wsi_mil.io.seals import changed_files
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext
from wsi_mil.run.current import check_scores, current_refined
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.killed import without_killers
from wsi_mil.run.recording import PacedSave, record_outcomes
from wsi_mil.run.states import without_unchanged
from wsi_mil.scoring import read_slide_scores, read_tile_scores
from wsi_mil.scoring.files import tile_scores_header
from wsi_mil.slides import read_scaled
from wsi_mil.stages.heatmap_job import GEOJSON, HeatmapJob
from wsi_mil.tissue.files import read_outline, tissue_features
from wsi_mil.training.learning import NOT_LEARNED

OF_ANY_TASK = ("tissue", "tiles")
"""Kinds of objects that a model of any task can have. Contours mark tumour, or regions of classes; detections
mark tumour."""


def heatmap_one(job: HeatmapJob) -> Outcome:
    """Draw overlay, pyramid and GeoJSON of one scored slide unless they are up to date."""
    started = time.perf_counter()
    run = RunFolder(job.run)
    refiner = current_refined(run, job.name, job.row)
    header = tile_scores_header(run.tile_scores(job.name, job.slide_id))
    version = score_kind(header.score_kind).format_version if header else 1
    digest = job.digest(refiner, version, header.second_kind if header else "")
    whole = all(path.exists() for path in job.files()) and not changed_files(job.run, job.pictures)
    if job.drawn_from == digest and whole:
        state = _state(run, job, digest, refiner)
        return Outcome(job.slide_id, job.stage, "done", "", {}, digest, reused=True, state=state)
    slide = _read(run, job.name, job.slide_id, job.row.threshold, job.spec, refiner is not None)
    with activity(job.slide_id, "drawing the heatmap"):
        _write_maps(run, job, slide)
    with activity(job.slide_id, "writing GeoJSON"):
        counts = _write_geojson(run, job, slide)
    state = _state(run, job, digest, refiner)
    seconds = time.perf_counter() - started
    return Outcome(job.slide_id, job.stage, "done", "", counts, digest, seconds, state=state)


def _state(run: RunFolder, job: HeatmapJob, digest: str, refiner: str | None) -> str:
    """Return the state of a heatmap that is up to date; "" beside refined maps that are left out, which each
    run warns of."""
    left_out = refiner is None and run.refined(job.name, job.slide_id).exists()
    return "" if left_out else job.state(run, digest)


def run(context: RunContext) -> int:
    """Draw the heatmaps of every model; return how many slides needed work, counted once per model."""
    return sum(draw_model(context, name) for name in context.config.models)


def draw_model(context: RunContext, name: str) -> int:
    """Draw the heatmaps of one model; return how many slides needed work."""
    run, config = context.run, context.config
    rows, header = read_slide_scores(run.slide_scores(name))
    if header.task != "detection":
        logger().info(
            "heatmap %s: task %s marks no tumour: no tumour contours, no detections", name, header.task
        )
    classes = mapped_classes(header.scheme)
    run.remove_other_classes(name, classes)
    if classes:
        logger().info("heatmap %s: a map of each of the classes %s", name, ", ".join(classes))
    score = config.heatmaps.score
    if score != "main" and header.second_kind not in (score, score_kind(score).of_predictions):
        logger().info("heatmap %s: no second tile score of kind %s: its main one is drawn", name, score)
    shown = sorted((row for row in rows if row.part in config.heatmaps.parts), key=lambda row: row.slide_id)
    jobs = _jobs(context, name, shown, classes, header.not_learned)
    stage = f"heatmap {name}"
    work = partial(map_slides, heatmap_one, stage=stage, spec=config.execution)
    outcomes = without_unchanged(
        run,
        stage,
        jobs,
        lambda job: job.state(run, job.drawn_from),
        lambda waiting: without_killers(run, stage, waiting, work),
    )
    return record_outcomes(run, stage, _indexed(run, name, jobs, outcomes), len(jobs))


def _jobs(
    context: RunContext,
    name: str,
    shown: Sequence[SlideScoreRow],
    classes: tuple[str, ...],
    not_learned: Sequence[int],
) -> list[HeatmapJob]:
    """Return a job for each of the rows `shown`. Raises DataError if an outline that is drawn is missing."""
    run, config = context.run, context.config
    outlined = "tissue" in config.heatmaps.objects
    without = [row.slide_id for row in shown if outlined and not run.tissue(row.slide_id).exists()]
    if without:
        raise DataError(
            f"heatmaps.objects: slide {without[0]!r} has no outline at {run.tissue(without[0])} "
            "(imported features have none): leave out tissue"
        )
    index, digests = run.read_index(name), run.heatmap_digests(name)
    jobs = [
        HeatmapJob(
            slide_id=row.slide_id,
            run=run.path,
            name=name,
            row=row,
            source=context.source_of(row.slide_id),
            reader=config.slides.reader,
            spec=config.heatmaps,
            evaluation=config.evaluation,
            qupath=config.qupath,
            classes=classes,
            drawn_from=index.get(row.slide_id),
            learned=row.fold not in not_learned,
        )
        for row in shown
    ]
    return [
        replace(
            job,
            pictures={key: digests[key] for key in job.names() if key in digests and key.endswith(".png")},
        )
        for job in jobs
    ]


def _indexed(
    run: RunFolder,
    name: str,
    jobs: Sequence[HeatmapJob],
    outcomes: Iterable[Outcome],
) -> Iterator[Outcome]:
    """Write finished slides into index.json while they arrive: a killed run does not draw them again."""
    index, known = run.read_index(name), run.heatmap_digests(name)
    files = {job.slide_id: job.names() for job in jobs}
    digests = {path: known[path] for paths in files.values() for path in paths if path in known}

    def save() -> None:
        if index != run.read_index(name) or digests != run.heatmap_digests(name):
            run.write_index(name, index, digests)

    with PacedSave(save) as saving, stopped_at_the_end(outcomes):
        for outcome in outcomes:
            if outcome.status == "done" and not outcome.reused:
                index[outcome.slide_id] = outcome.digest
                paths = files[outcome.slide_id]
                digests |= {path: digest_file(run.path / path) for path in paths}
                saving.changed()
            yield outcome


@dataclass(frozen=True)
class ScoredSlide:
    """One slide with all that its files are drawn from. scores: with those that are drawn as tile scores.
    main: with the method's main ones, which detections are of. raster: for contours. picture: for overlay and
    pyramid."""

    info: SlideInfo
    table: TileTable
    scores: SlideScores
    main: SlideScores
    raster: ScoreRaster
    picture: ScoreRaster
    picture_label: str
    thresholds: tuple[float, ...]


def _read(
    run: RunFolder, name: str, slide_id: str, own_threshold: float, spec: HeatmapSpec, refined: bool
) -> ScoredSlide:
    main = read_tile_scores(run.tile_scores(name, slide_id))
    scores = main if spec.score == "main" else main.of_kind(spec.score)
    table = run.store(slide_id).read_tiles()
    check_scores(scores, table)
    own = scores.tile_threshold(own_threshold) if scores.prediction is None else MAJORITY
    raster = score_raster(table, scores.tile_scores01(), spec.pixels_per_tile)
    picture, label = raster, scores.label
    if refined:
        raster = refined_raster(table, scores.tile_scores01(), read_refined(run.refined(name, slide_id)), own)
        picture, label = raster, f"{scores.label}; refined in suspicious tiles"
    elif not scores.kind.is_probability and spec.attention == "rank":
        picture = score_raster(table, scores.tile_ranks(), spec.pixels_per_tile)
        label = scores.kind.rank_label
    info = run.store(slide_id).read_info()
    return ScoredSlide(info, table, scores, main, raster, picture, label, spec.thresholds or (own,))


def _write_maps(run: RunFolder, job: HeatmapJob, drawn: ScoredSlide) -> None:
    """Write the picture and the pyramid of the slide, and those of each class in `job.classes`."""
    scores, info = drawn.scores, drawn.info
    thumbnail = _thumbnail(job, run.store(job.slide_id), info)
    result = f"slide probability {scores.probability:.3f}"
    if scores.prediction is not None:
        result = f"prediction {scores.prediction:.4g}"
    files = [run.heatmap(job.name, job.slide_id, suffix) for suffix in ("png", "ome.tif")]
    model = job.name if job.learned else f"{job.name} ({NOT_LEARNED})"
    title = f"{scores.slide_id}   {model}: {result}"
    _write_map(files, thumbnail, drawn.picture, info, title, drawn.picture_label, job.name)
    for class_name in job.classes:
        raster = class_raster(drawn.table, scores, class_name, job.spec.pixels_per_tile)
        probability = scores.class_probabilities[scores.class_names.index(class_name)]
        files = [
            run.class_heatmap(job.name, class_name, job.slide_id, suffix) for suffix in ("png", "ome.tif")
        ]
        title = f"{scores.slide_id}   {model}: probability of {class_name} {probability:.3f}"
        label = f"probability of {class_name}, each tile alone"
        _write_map(files, thumbnail, raster, info, title, label, f"{job.name} {class_name}")


def _write_map(
    files: Sequence[Path],
    thumbnail: RGB,
    raster: ScoreRaster,
    info: SlideInfo,
    title: str,
    label: str,
    channel: str,
) -> None:
    """Write one map as the two `files`: a picture over the thumbnail, and a pyramid."""
    picture = draw_overlay(thumbnail, raster, info, title=title, colour_label=label)
    write_bytes(files[0], picture)
    write_score_pyramid(files[1], raster, info, f"{info.slide_id} {channel}")


def _thumbnail(job: HeatmapJob, store: SlideStore, info: SlideInfo) -> RGB:
    """Return the slide, `overlay_px` along its longer side; white if there is no file (imported features)."""
    longer = max(info.width_px * info.mpp_x, info.height_px * info.mpp_y)
    mpp = max(longer / job.spec.overlay_px, info.mpp)
    if job.source.path is None:
        shape = (round(info.height_px * info.mpp_y / mpp), round(info.width_px * info.mpp_x / mpp), 3)
        return np.full(shape, 255, np.uint8)
    slide = open_tiled(job.source, job.reader, store)
    with slide, activity(job.slide_id, "reading the overview"):
        return read_scaled(slide, mpp)


def _slide_result(scores: SlideScores) -> dict[str, float]:
    """Return what the header says of the slide, with 6 digits."""
    if scores.prediction is not None:
        return {"prediction": float(f"{scores.prediction:.6g}")}
    return {"slide_probability": float(f"{scores.probability:.6g}")}


def _tumour_threshold(drawn: ScoredSlide) -> float:
    """Return the score from which a tile has the class "Tumor": infinity for tasks other than detection."""
    return min(drawn.thresholds) if drawn.scores.prediction is None else math.inf


def _write_geojson(run: RunFolder, job: HeatmapJob, drawn: ScoredSlide) -> dict[str, int]:
    """Write the objects that `spec` names; return their number, and how many tiles lie outside the frame of
    QuPath."""
    name, spec, evaluation, qupath = job.name, job.spec, job.evaluation, job.qupath
    info, table, scores = drawn.info, drawn.table, drawn.scores
    frame = qupath_frame(info, qupath.bounds)
    allowed = OF_ANY_TASK if not scores.class_names else (*OF_ANY_TASK, "contours")
    objects = [kind for kind in spec.objects if scores.prediction is None or kind in allowed]
    kept, outside = shown_tiles(scores, table, frame, spec.min_tile_probability, spec.top_tiles)
    header = {
        "kind": "heatmap",
        "format": scores.kind.format_version,
        "slide_id": scores.slide_id,
        "model": name,
        "model_digest": scores.model_digest,
        "score_kind": scores.score_kind,
        **_slide_result(scores),
        "objects": objects,
        "thresholds": [float(f"{value:.6g}") for value in drawn.thresholds],
        "tiles_outside_frame": outside,
        **frame.header(),
        "slide_size_px": [info.width_px, info.height_px],
    }

    def features() -> Iterator[Feature]:
        if "tissue" in objects:
            yield from tissue_features(read_outline(run.tissue(scores.slide_id), info, qupath), info, frame)
        if "contours" in objects and scores.prediction is None:
            for threshold in drawn.thresholds:
                yield from contour_features(
                    drawn.raster, info, frame, threshold, name, spec.min_region_um2, kind=scores.kind
                )
        elif "contours" in objects:
            yield from _class_contours(job, drawn, frame)
        if "tiles" in objects:
            yield from tile_features(scores, table, frame, _tumour_threshold(drawn), name, kept)
        if "detections" in objects:
            found = detections_of(drawn.main, table, evaluation)
            yield from detection_features(found, frame, name, kind=drawn.main.kind)

    for version, suffix in GEOJSON.items():
        if version != qupath.version:  # a file of the other version would be out of date
            remove(run.heatmap(name, scores.slide_id, suffix))
    path = run.heatmap(name, scores.slide_id, GEOJSON[qupath.version])
    return {"objects": write_features(path, features(), header, qupath.version), "outside_frame": outside}


def _class_contours(job: HeatmapJob, drawn: ScoredSlide, frame: QuPathFrame) -> Iterator[Feature]:
    """Yield the regions in which a class has the majority, of the class's own name and colour."""
    spec, scores = job.spec, drawn.scores
    for class_name in job.classes:
        yield from contour_features(
            class_raster(drawn.table, scores, class_name, spec.pixels_per_tile),
            drawn.info,
            frame,
            MAJORITY,
            job.name,
            spec.min_region_um2,
            kind=score_kind("probability"),
            class_name=class_name,
            colour=class_colour(scores, class_name),
        )
