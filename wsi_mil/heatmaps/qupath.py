"""Scores as QuPath objects: one tile each, and the outline of what lies above the threshold."""

from collections.abc import Iterator

import numpy as np
import shapely

from wsi_mil.contracts.scores import SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.geojson import GRID_PX, Feature, Rectangle, feature, polygonal, stable_id
from wsi_mil.heatmaps.raster import ScoreRaster
from wsi_mil.raster import polygonize
from wsi_mil.units import px2_to_mm2

CHUNK = 65536
TUMOUR, OTHER = (200, 0, 0), (70, 130, 180)


def tile_features(
    scores: SlideScores, table: TileTable, info: SlideInfo, threshold: float, model: str
) -> Iterator[Feature]:
    """Yield one QuPath tile per scored tile, whole pixels, in the frame that QuPath shows, clipped to the slide.

    Measurements: `score` (raw, of its kind) and `prob_tumor` (or `attention_scaled`, which is no probability).
    """
    probabilities = scores.tile_probabilities()
    measure = "attention_scaled" if scores.score_kind == "attention" else "prob_tumor"
    shown = np.array(_frame_size(info))
    tile_px = np.array([round(table.plan.tile_width0_px), round(table.plan.tile_height0_px)])
    for start in range(0, len(table), CHUNK):
        coords = table.coords[start : start + CHUNK].astype(np.int64)
        corner = coords - np.array(info.qupath_offset_px)
        first, last = np.maximum(corner, 0), np.minimum(corner + tile_px, shown)
        raw, probability = (values[start : start + CHUNK] for values in (scores.tile_scores, probabilities))
        kept = np.isfinite(raw) & (last > first).all(1)
        columns = (coords, np.hstack([first, last]), raw, probability)
        for (x0_px, y0_px), box, score, p in zip(*(column[kept].tolist() for column in columns), strict=True):
            positive = p >= threshold
            yield feature(
                Rectangle(*box),
                object_type="tile",
                uid=stable_id(scores.slide_id, model, "tile", x0_px, y0_px),
                class_name="Tumor" if positive else "Other",
                colour=TUMOUR if positive else OTHER,
                measurements={"score": score, measure: p},
            )


def contour_features(
    raster: ScoreRaster, info: SlideInfo, threshold: float, model: str, scores: SlideScores
) -> Iterator[Feature]:
    """Yield one annotation per connected region of tiles at or above the threshold."""
    above = np.nan_to_num(raster.values, nan=-1.0) >= threshold
    frame = shapely.box(0, 0, *_frame_size(info))
    for number, region in enumerate(polygonize(above, raster.scale_x_px, raster.scale_y_px).geoms):
        shifted = shapely.transform(region, lambda xy: xy - list(info.qupath_offset_px))
        outline = polygonal(shapely.intersection(shifted, frame), GRID_PX)
        if outline.is_empty:
            continue
        inside = polygonal(region)
        yield feature(
            outline,
            object_type="annotation",
            uid=stable_id(scores.slide_id, model, "contour", number, *(round(v) for v in inside.bounds)),
            class_name="Tumor",
            colour=TUMOUR,
            name=f"{model} >= {threshold:.3g}",
            measurements={
                "area_mm2": px2_to_mm2(outline.area, info.mpp_x, info.mpp_y),
                "max_prob": _largest(raster, inside),
            },
            metadata={"model": model, "threshold": f"{threshold:.6g}"},
        )


def _largest(raster: ScoreRaster, region: shapely.MultiPolygon) -> float:
    x0, y0, x1, y1 = region.bounds
    columns = slice(int(x0 / raster.scale_x_px), max(round(x1 / raster.scale_x_px), 1))
    rows = slice(int(y0 / raster.scale_y_px), max(round(y1 / raster.scale_y_px), 1))
    window = raster.values[rows, columns]
    return float(np.nanmax(window)) if np.isfinite(window).any() else float("nan")


def _frame_size(info: SlideInfo) -> tuple[int, int]:
    """Size of the image as QuPath shows it: cropped to the bounds where all four are known (Q34)."""
    if info.bounds is not None:
        return info.bounds.width_px, info.bounds.height_px
    return info.width_px, info.height_px
