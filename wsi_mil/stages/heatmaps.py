"""heatmap: for every scored slide an overlay, a pyramid and GeoJSON."""

import time
from collections.abc import Iterator, Sequence

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import ModelError
from wsi_mil.files import digest_json, write_aside
from wsi_mil.geojson import Feature, write_features
from wsi_mil.heatmaps import contour_features, draw_overlay, score_raster, tile_features, write_score_pyramid
from wsi_mil.heatmaps.raster import ScoreRaster
from wsi_mil.heatmaps.spec import HeatmapSpec
from wsi_mil.scoring import read_slide_scores, read_tile_scores
from wsi_mil.slides import open_slide, read_scaled
from wsi_mil.stages.run_folder import RunFolder, SlideSource
from wsi_mil.stages.slides import each

SUFFIXES = ("png", "ome.tif", "geojson.gz")
ATTENTION_THRESHOLD = 0.5


def run_heatmap(run: RunFolder, name: str, slides: Sequence[SlideSource], reader: str, spec: HeatmapSpec) -> int:
    """Draw the heatmaps of one model; return how many slides needed work."""
    rows, _ = read_slide_scores(run.slide_scores(name))
    by_id = {row["slide_id"]: row for row in rows if row["part"] in spec.parts}
    sources = {source.slide_id: source for source in slides}
    index = run.read_index(name)

    def draw(slide_id: str) -> Outcome:
        started = time.perf_counter()
        row = by_id[slide_id]
        digest = digest_json(
            [row["model_digest"], row["features_digest"], row["tiles_digest"], row["threshold"], spec.digest()]
        )
        complete = all(run.heatmap(name, slide_id, suffix).exists() for suffix in SUFFIXES)
        if index.get(slide_id) == digest and complete:
            return Outcome(slide_id, f"heatmap {name}", "done", "", {}, digest, reused=True)
        scores = read_tile_scores(run.tile_scores(name, slide_id))
        table = run.store(slide_id).read_tiles()
        check_scores(scores, table)
        threshold = row["threshold"] if spec.threshold is None else spec.threshold
        if spec.threshold is None and scores.score_kind == "attention":
            threshold = ATTENTION_THRESHOLD
        info = run.store(slide_id).read_info()
        raster = score_raster(table, scores.tile_probabilities(), spec.pixels_per_tile)
        _write_overlay(run, name, sources[slide_id], reader, spec, raster, info, scores)
        write_score_pyramid(run.heatmap(name, slide_id, "ome.tif"), raster, info, f"{slide_id} {name}")
        objects = _write_geojson(run, name, table, spec, raster, info, scores, threshold)
        index[slide_id] = digest
        seconds = time.perf_counter() - started
        return Outcome(slide_id, f"heatmap {name}", "done", "", {"objects": objects}, digest, seconds)

    before = dict(index)
    try:
        return each(f"heatmap {name}", sorted(by_id), draw, run)
    finally:
        if index != before:
            run.write_index(name, index)


def check_scores(scores: SlideScores, table: TileTable) -> None:
    """Raise ModelError unless the scores belong to this tile table, row by row."""
    if scores.tiles_digest != table.digest():
        raise ModelError(
            f"scores of slide {scores.slide_id!r} were made from tile table {scores.tiles_digest}, the store now holds "
            f"{table.digest()}: run `wsi-mil score` again"
        )


def _write_overlay(run: RunFolder, name: str, source: SlideSource, reader: str, spec: HeatmapSpec, raster: ScoreRaster,
                   info: SlideInfo, scores: SlideScores) -> None:  # fmt: skip
    longer = max(info.width_px * info.mpp_x, info.height_px * info.mpp_y)
    with open_slide(source.path, slide_id=source.slide_id, reader=reader, mpp=source.mpp) as slide:
        thumbnail = read_scaled(slide, max(longer / spec.overlay_px, info.mpp))
    label = "attention / largest of the slide" if scores.score_kind == "attention" else "tile probability"
    title = f"{scores.slide_id}   {name}: slide probability {scores.probability:.3f}"
    picture = draw_overlay(thumbnail, raster, info, title=title, colour_label=label)
    with write_aside(run.heatmap(name, scores.slide_id, "png")) as aside:
        aside.write_bytes(picture)


def _write_geojson(run: RunFolder, name: str, table: TileTable, spec: HeatmapSpec, raster: ScoreRaster, info: SlideInfo,
                   scores: SlideScores, threshold: float) -> int:  # fmt: skip
    header = {
        "kind": "heatmap",
        "format": 1,
        "slide_id": scores.slide_id,
        "model": name,
        "model_digest": scores.model_digest,
        "score_kind": scores.score_kind,
        "slide_probability": float(f"{scores.probability:.6g}"),
        "threshold": float(f"{threshold:.6g}"),
        "bounds_mode": "auto",
        "bounds_offset_px": list(info.qupath_offset_px),
        "slide_size_px": [info.width_px, info.height_px],
    }

    def features() -> Iterator[Feature]:
        yield from contour_features(raster, info, threshold, name, scores)
        if spec.tiles:
            yield from tile_features(scores, table, info, threshold, name)

    return write_features(run.heatmap(name, scores.slide_id, "geojson.gz"), features(), header)
