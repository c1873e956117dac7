"""Scores as objects for QuPath: tiles, outlines of regions above a threshold, and detections as points."""

from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Point

from wsi_mil.contracts.arrays import Mask
from wsi_mil.contracts.qupath import QuPathFrame
from wsi_mil.contracts.score_kinds import ScoreKind
from wsi_mil.contracts.scores import Detection, SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.geojson import GRID_PX, Colour, Feature, Rectangle, feature, polygonal, stable_id
from wsi_mil.heatmaps.classes import class_colour
from wsi_mil.heatmaps.raster import ScoreRaster
from wsi_mil.raster import polygonize
from wsi_mil.units import px2_to_mm2

CHUNK = 65536
TUMOUR, OTHER, POINT = (200, 0, 0), (70, 130, 180), (255, 200, 0)
TUMOUR_CLASS, OTHER_CLASS = "Tumor", "Other"


def shown_tiles(
    scores: SlideScores, table: TileTable, frame: QuPathFrame, at_least: float = 0.0, top: int | None = None
) -> tuple[Mask, int]:
    """Return which tiles are written (N,), and how many scored tiles lie outside the frame and are not (Q40).

    at_least: the smallest score01 that is written. top: how many tiles at most, those of the largest
    score01; of equal ones the first in the table.
    """
    values = scores.tile_scores01()
    first, last = _corners(table, frame, slice(None))
    inside, scored = (last > first).all(1), np.isfinite(values)
    kept = scored & inside & (values >= at_least)
    if top is not None and kept.sum() > top:
        order = np.argsort(np.where(kept, -values, np.inf), kind="stable")
        kept = np.isin(np.arange(len(kept)), order[:top])
    return kept, int((scored & ~inside).sum())


def _corners(
    table: TileTable, frame: QuPathFrame, rows: slice
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the upper left and the lower right corners of tiles in the frame, clipped to it; each (N, 2)."""
    corner = table.coords[rows].astype(np.int64) - np.array(frame.offset_px)
    tile_px = np.array([round(table.plan.tile_width0_px), round(table.plan.tile_height0_px)])
    return np.maximum(corner, 0), np.minimum(corner + tile_px, np.array(frame.size_px))


def tile_features(
    scores: SlideScores,
    table: TileTable,
    frame: QuPathFrame,
    threshold: float,
    model: str,
    kept: Mask | None = None,
) -> Iterator[Feature]:
    """Yield one QuPath tile per scored tile, in whole pixels of the frame, clipped to it.

    kept (N,): which tiles; by default those of `shown_tiles`. Tiles from `threshold` on get the class Tumor;
    without a normal class (`threshold` infinite) each tile gets its most probable class.
    Measurements: `score`, as the model gave it, score01 under the name that its kind has (`prob_tumor`
    of a probability, `score01` of attention), and `p_<class>`, the probability of each class of the tile
    alone.
    """
    values, measurement = scores.tile_scores01(), scores.kind.measurement
    if kept is None:
        kept, _ = shown_tiles(scores, table, frame)
    classes = scores.tile_class_probabilities
    if classes is None:
        classes = np.empty((len(table), 0), np.float32)
    for start in range(0, len(table), CHUNK):
        rows = slice(start, start + CHUNK)
        columns = (table.coords[rows], np.hstack(_corners(table, frame, rows)), scores.tile_scores[rows])
        lists = [column[kept[rows]].tolist() for column in (*columns, values[rows], classes[rows])]
        for (x0_px, y0_px), box, score, score01, of_classes in zip(*lists, strict=True):
            class_name, colour = _class_of(score01, threshold, scores, of_classes)
            yield feature(
                Rectangle(*box),
                object_type="tile",
                uid=stable_id(scores.slide_id, model, "tile", x0_px, y0_px),
                class_name=class_name,
                colour=colour,
                measurements={
                    "score": score,
                    measurement: score01,
                    **{f"p_{name}": p for name, p in zip(scores.class_names, of_classes, strict=True)},
                },
            )


def _class_of(
    score01: float, threshold: float, scores: SlideScores, of_classes: Sequence[float]
) -> tuple[str, Colour]:
    """Return the QuPath class of a tile and its colour."""
    if score01 >= threshold:
        return TUMOUR_CLASS, TUMOUR
    if scores.prediction is None or not of_classes:
        return OTHER_CLASS, OTHER
    name = scores.class_names[int(np.argmax(of_classes))]
    return name, class_colour(scores, name)


def contour_features(
    raster: ScoreRaster,
    info: SlideInfo,
    frame: QuPathFrame,
    threshold: float,
    model: str,
    min_region_um2: float = 0.0,
    *,
    kind: ScoreKind,
    class_name: str = TUMOUR_CLASS,
    colour: Colour = TUMOUR,
) -> Iterator[Feature]:
    """Yield one annotation per connected region at or above the threshold, of at least `min_region_um2`.

    class_name, colour: the QuPath class of the regions, and its colour (red, green, blue).
    Measurements: `area_mm2`, and the largest score01 inside under the name that its kind has.
    """
    above = np.nan_to_num(raster.values, nan=-1.0) >= threshold
    shown = shapely.box(0, 0, *frame.size_px)
    for number, region in enumerate(polygonize(above, raster.scale_x_px, raster.scale_y_px).geoms):
        shifted = shapely.transform(region, lambda xy: xy - list(frame.offset_px))
        outline = polygonal(shapely.intersection(shifted, shown), GRID_PX)
        if outline.is_empty or region.area * info.mpp_x * info.mpp_y < min_region_um2:
            continue
        inside = polygonal(region)
        corners = (round(v) for v in inside.bounds)
        what = "contour" if class_name == TUMOUR_CLASS else f"contour {class_name}"
        yield feature(
            outline,
            object_type="annotation",
            uid=stable_id(info.slide_id, model, what, f"{threshold:.6g}", number, *corners),
            class_name=class_name,
            colour=colour,
            name=f"{model} >= {threshold:.3g}",
            measurements={
                "area_mm2": px2_to_mm2(outline.area, info.mpp_x, info.mpp_y),
                kind.largest: _largest(raster, inside),
            },
            metadata={"model": model, "threshold": f"{threshold:.6g}"},
        )


def _largest(raster: ScoreRaster, region: shapely.MultiPolygon) -> float:
    x0, y0, x1, y1 = region.bounds
    columns = slice(int(x0 / raster.scale_x_px), max(round(x1 / raster.scale_x_px), 1))
    rows = slice(int(y0 / raster.scale_y_px), max(round(y1 / raster.scale_y_px), 1))
    window = raster.values[rows, columns]
    return float(np.nanmax(window)) if np.isfinite(window).any() else float("nan")


def detection_features(
    detections: Sequence[Detection], frame: QuPathFrame, model: str, *, kind: ScoreKind
) -> Iterator[Feature]:
    """Yield one QuPath detection, a point, per detection inside the frame.

    Measurements: `rank`, 1 for the first, and score01 as `probability`, or as `score01` where it is none.
    """
    for rank, found in enumerate(detections, start=1):
        x_px, y_px = found.x0_px - frame.offset_px[0], found.y0_px - frame.offset_px[1]
        if 0 <= x_px <= frame.size_px[0] and 0 <= y_px <= frame.size_px[1]:
            yield feature(
                Point(x_px, y_px),
                object_type="detection",
                uid=stable_id(
                    found.slide_id, model, "detection", rank, f"{found.x0_px:.2f}", f"{found.y0_px:.2f}"
                ),
                class_name="Detection",
                colour=POINT,
                name=f"{model} {rank}",
                measurements={kind.column: found.score01, "rank": rank},
            )
