"""Detections: points at which a model reports a lesion, from tile scores or from a pixel-level map."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.scores import Detection, DetectionMethod, SlideScores
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.evaluation.spec import EvaluationSpec


def find_detections(
    scores: SlideScores,
    table: TileTable,
    *,
    radius_um: float,
    min_probability: float = 0.0,
    method: DetectionMethod = "maxima",
) -> list[Detection]:
    """Return the detections of a slide, the highest score01 first, from the tiles above `min_probability`.

    Equal ones are in the order of their tiles: by y, then x. `method` is one of

    maxima: the centre of the tile of the highest score01 is a detection; tiles with a centre within
    `radius_um` of it are dropped; then the same with the tiles that are left.
    components: tiles that touch at a side or a corner make one detection, at the mean of their centres and
    with their largest score01. It may lie outside a component that is bent.
    tiles: the centre of every tile.
    """
    score01 = scores.tile_scores01()
    alive = np.isfinite(score01) & (score01 > min_probability)
    if not alive.any():
        return []
    tile_px = np.array([table.plan.tile_width0_px, table.plan.tile_height0_px])
    centres = table.coords + tile_px / 2
    if method == "components":
        points, values = _components(centres[alive], score01[alive], table)
    else:
        points, values = centres, np.where(alive, score01, -1.0)
        kept = _maxima(centres * np.array(table.mpp_xy), values, radius_um) if method == "maxima" else alive
        points, values = points[kept], values[kept]
    order = np.argsort(-values, kind="stable")
    return [
        Detection(scores.slide_id, float(points[i, 0]), float(points[i, 1]), float(values[i])) for i in order
    ]


def find_in_raster(
    slide_id: str,
    values: NDArray[np.float32],
    scale_xy_px: tuple[float, float],
    table: TileTable,
    *,
    radius_um: float,
    smooth_um: float,
    min_probability: float = 0.0,
) -> list[Detection]:
    """Return the detections in a pixel-level map, most probable first.

    In each tile of `table` the candidate is the pixel with the largest mean over a square of `smooth_um`. The
    candidates above `min_probability` then compete as tile centres do in method `maxima` of
    `find_detections`. values (rows, columns): probabilities, NaN where there is no score. A pixel covers
    `scale_xy_px` level-0 pixels.
    """
    import cv2

    scale = np.array(scale_xy_px)
    side = np.maximum(np.rint(smooth_um / (scale * np.array(table.mpp_xy))).astype(int), 1)
    smooth = cv2.blur(np.nan_to_num(values), tuple(side.tolist()), borderType=cv2.BORDER_REFLECT)
    smooth[~np.isfinite(values)] = -1
    first = np.rint(table.coords / scale).astype(int)
    last = np.rint(
        (table.coords + np.array([table.plan.tile_width0_px, table.plan.tile_height0_px])) / scale
    ).astype(int)
    points, best = np.zeros((len(table), 2)), np.full(len(table), -1.0)
    for i, ((left, top), (right, lower)) in enumerate(zip(first, last, strict=True)):
        tile = smooth[top:lower, left:right]
        if tile.size:
            row, column = np.unravel_index(int(tile.argmax()), tile.shape)
            points[i], best[i] = (
                ((left + column + 0.5) * scale[0], (top + row + 0.5) * scale[1]),
                tile[row, column],
            )
    candidates = np.where(best > min_probability, best, -1.0)
    if not (candidates >= 0).any():
        return []
    kept = np.flatnonzero(_maxima(points * np.array(table.mpp_xy), candidates, radius_um))
    order = kept[np.argsort(-candidates[kept], kind="stable")]
    return [
        Detection(slide_id, float(points[i, 0]), float(points[i, 1]), float(candidates[i])) for i in order
    ]


def _maxima(
    centres_um: NDArray[np.float64], values: NDArray[np.floating], radius_um: float
) -> NDArray[np.bool_]:
    """Return (N,): which points are kept, the largest value first, none within `radius_um` of a kept one.

    Points with a negative value are not candidates.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(centres_um)
    alive, kept = values >= 0, np.zeros(len(values), bool)
    for row in np.argsort(-values, kind="stable"):
        if alive[row]:
            kept[row] = True
            alive[tree.query_ball_point(centres_um[row], radius_um)] = False
    return kept


def _components(
    centres: NDArray[np.float64], values: NDArray[np.floating], table: TileTable
) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """Return the mean centre and the largest value of each group of neighbouring tiles."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    step0_px = table.spec.step_px * table.spec.mpp / np.array(table.mpp_xy)
    pairs = cKDTree(centres / step0_px).query_pairs(1.25, p=np.inf, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (len(centres), len(centres)))
    count, group = connected_components(links, directed=False)
    sizes = np.bincount(group, minlength=count)
    points = np.stack([np.bincount(group, centres[:, axis], count) / sizes for axis in (0, 1)], 1)
    largest = np.full(count, -np.inf)
    np.maximum.at(largest, group, values)
    return points, largest


def detections_of(scores: SlideScores, table: TileTable, spec: EvaluationSpec) -> list[Detection]:
    """Return the detections by the method and limits of `spec`, which FROC counts and QuPath shows."""
    return find_detections(
        scores,
        table,
        radius_um=spec.detection_radius_um,
        min_probability=spec.min_probability,
        method=spec.detections,
    )
