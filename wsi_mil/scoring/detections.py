"""Points that claim a lesion, from tile scores."""

import numpy as np

from wsi_mil.contracts.scores import Detection, SlideScores
from wsi_mil.contracts.tiles import TileTable


def find_detections(
    scores: SlideScores, table: TileTable, *, radius_um: float, min_probability: float = 0.0
) -> list[Detection]:
    """Return the centres of tiles that are local maxima, most probable first.

    Greedy: take the most probable tile left, drop all tiles whose centre lies within `radius_um` of its centre, go on
    until `min_probability`. Of equal tiles the first in (y, x) order is taken.
    """
    from scipy.spatial import cKDTree

    probability = scores.tile_probabilities()
    mpp = np.array(table.mpp_xy)
    centres = table.coords + np.array([table.plan.tile_width0_px, table.plan.tile_height0_px]) / 2
    alive = np.isfinite(probability) & (probability > min_probability)
    if not alive.any():
        return []
    tree = cKDTree(centres * mpp)
    found = []
    for row in np.argsort(-np.nan_to_num(probability), kind="stable"):
        if not alive[row]:
            continue
        x0_px, y0_px = centres[row]
        found.append(Detection(scores.slide_id, float(x0_px), float(y0_px), float(probability[row])))
        alive[tree.query_ball_point(centres[row] * mpp, radius_um)] = False
    return found
