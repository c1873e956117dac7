"""Patch level: do the tiles that the model points at lie on the lesions?"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.evaluation.intervals import bootstrap_interval
from wsi_mil.evaluation.slide_metrics import auc, average_precision


@dataclass(frozen=True)
class LabelledTiles:
    """Scores and truth of one slide's tiles."""

    slide_id: str
    group: str
    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]


def tile_overlap(table: TileTable, lesions: Sequence[Lesion]) -> NDArray[np.float64]:
    """Return (N,): the share of each tile's area that lies inside the lesions."""
    coords = table.coords.astype(np.float64)
    width, height = table.plan.tile_width0_px, table.plan.tile_height0_px
    share = np.zeros(len(coords))
    if not lesions or not len(coords):
        return share
    boxes = shapely.box(coords[:, 0], coords[:, 1], coords[:, 0] + width, coords[:, 1] + height)
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    shapely.prepare(area)
    share[shapely.contains_properly(area, boxes)] = 1.0
    partly = shapely.intersects(area, boxes) & (share == 0)
    share[partly] = shapely.area(shapely.intersection(boxes[partly], area)) / (width * height)
    return share


def patch_metrics(slides: Sequence[LabelledTiles], rng: np.random.Generator, draws: int = 200) -> dict[str, Any]:
    """Return pooled AUC and average precision ('auprc') over all tiles of all slides, with 95 % intervals over groups,
    and the mean AUC within the slides where it is defined."""
    scores = [slide.scores[np.isfinite(slide.scores)] for slide in slides]
    truth = [slide.truth[np.isfinite(slide.scores)] for slide in slides]
    positive = int(sum(part.sum() for part in truth))
    total = sum(len(part) for part in truth)

    def pooled(metric: Any) -> Any:
        return lambda rows: metric(np.concatenate([truth[r] for r in rows]), np.concatenate([scores[r] for r in rows]))

    result: dict[str, Any] = {"n_slides": len(slides), "n_tiles": total, "n_positive": positive}
    intervals, reasons = {}, {}
    for name, metric in (("auc", auc), ("auprc", average_precision)):
        if positive in (0, total):
            result[name] = math.nan
            reasons[name] = f"undefined: {positive} of {total} tiles on lesions"
            continue
        interval = bootstrap_interval(pooled(metric), [slide.group for slide in slides], rng, draws)
        result[name] = interval.value
        intervals[name] = asdict(interval)
    within = [value for t, s in zip(truth, scores, strict=True) if not math.isnan(value := auc(t, s))]
    result["auc_within_slides"] = float(np.mean(within)) if within else math.nan
    return {**result, "intervals": intervals, "reasons": reasons}
