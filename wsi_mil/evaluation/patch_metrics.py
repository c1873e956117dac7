"""Patch level: do the tiles that the model points at lie on the lesions?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.evaluation.intervals import bootstrap_interval
from wsi_mil.evaluation.slide_metrics import auc, average_precision, f1


@dataclass(frozen=True)
class LabelledTiles:
    """Scores and truth of one slide's tiles (N,), NaN where a tile could not be read; `predicted`: called tumour."""

    slide_id: str
    group: str
    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]
    predicted: NDArray[np.bool_]

    def readable(self) -> "LabelledTiles":
        """Return the tiles that have a score."""
        finite = np.isfinite(self.scores)
        return replace(
            self, truth=self.truth[finite], scores=self.scores[finite], predicted=self.predicted[finite]
        )


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


def tile_centres(table: TileTable, lesions: Sequence[Lesion]) -> NDArray[np.bool_]:
    """Return (N,): whether each tile's centre lies inside a lesion."""
    centres = table.coords + np.array([table.plan.tile_width0_px, table.plan.tile_height0_px]) / 2
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    return np.asarray(shapely.contains_xy(area, centres[:, 0], centres[:, 1]), np.bool_)


def patch_metrics(
    slides: Sequence[LabelledTiles], rng: np.random.Generator, draws: int = 200
) -> dict[str, Any]:
    """Return auc, auprc (average precision), f1 over all tiles of all slides, with 95 % intervals over groups; `per_slide`:
    the mean of each, and of Dice, over the slides where it is defined. Undefined: NaN, and `reasons` says why.

    F1 of the pooled tiles is their Dice coefficient. `predicted` must come from thresholds chosen on other slides.
    """
    slides = [slide.readable() for slide in slides]
    positive = int(sum(slide.truth.sum() for slide in slides))
    total = sum(len(slide.truth) for slide in slides)
    result: dict[str, Any] = {"n_slides": len(slides), "n_tiles": total, "n_positive": positive}
    intervals, reasons = {}, {}
    groups = [slide.group for slide in slides]
    for name, metric in METRICS.items():
        if positive in (0, total):
            result[name] = math.nan
            reasons[name] = f"undefined: {positive} of {total} tiles on lesions"
            continue
        interval = bootstrap_interval(pooled(metric, slides), groups, rng, draws)
        result[name] = interval.value
        intervals[name] = asdict(interval)
    result["per_slide"] = {}
    for name, metric in METRICS.items():
        values = [value for slide in slides if slide.truth.any() and not math.isnan(value := metric(slide))]
        label = "dice" if name == "f1" else name
        result["per_slide"][label] = {
            "mean": float(np.mean(values)) if values else math.nan,
            "n_slides": len(values),
        }
    return {**result, "intervals": intervals, "reasons": reasons}


METRICS: dict[str, Callable[[LabelledTiles], float]] = {
    "auc": lambda tiles: auc(tiles.truth, tiles.scores),
    "auprc": lambda tiles: average_precision(tiles.truth, tiles.scores),
    "f1": lambda tiles: f1(tiles.truth, tiles.predicted),
}


def pooled(
    metric: Callable[[LabelledTiles], float], slides: Sequence[LabelledTiles]
) -> Callable[[NDArray[np.intp]], float]:
    """Return the metric of the tiles of chosen slides together, as a function of their numbers."""

    def statistic(rows: NDArray[np.intp]) -> float:
        columns = [
            np.concatenate([getattr(slides[r], name) for r in rows])
            for name in ("truth", "scores", "predicted")
        ]
        return metric(LabelledTiles("pooled", "", *columns))

    return statistic
