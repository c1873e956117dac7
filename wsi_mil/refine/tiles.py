"""Which tiles a refiner learns from, and which tiles it refines."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wsi_mil.attention2d.supervision import polygon_masks
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.slide import SlideInfo, SlideSource
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import DataError
from wsi_mil.evaluation import tile_overlap
from wsi_mil.execution.spec import available_cores
from wsi_mil.logs import logger, progress
from wsi_mil.refine.network import NORMAL, TUMOUR, TrainingTiles
from wsi_mil.refine.refiner import Limits
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.slides import open_slide
from wsi_mil.tiles.windows import plan_windows, read_windows


@dataclass(frozen=True)
class TrainingSlide:
    """A labelled training slide.

    label: `NORMAL` or `TUMOUR`. suspicion (N,): how suspicious the slide model finds its tiles, NaN for
    unreadable ones.
    lesions: its outlines; None if it has no outlines.
    """

    source: SlideSource
    info: SlideInfo
    table: TileTable
    label: int
    suspicion: NDArray[np.float32]
    lesions: tuple[Lesion, ...] | None


@dataclass(frozen=True)
class ChosenTile:
    """A tile to learn from: number of its slide, row in that slide's tile table, and label."""

    slide: int
    row: int
    label: int


def find_limits(slides: Sequence[TrainingSlide], spec: RefineSpec) -> Limits:
    """Return the limits: quantiles over tiles of normal training slides. Raises DataError without these."""
    normal = [slide.suspicion[np.isfinite(slide.suspicion)] for slide in slides if slide.label == NORMAL]
    if not normal:
        raise DataError(
            "refine: no normal training slide, whose tiles are needed to decide which tiles are suspicious"
        )
    values = np.concatenate(normal)
    sure, suspicious = (
        float(np.quantile(values, quantile)) for quantile in (spec.sure_above, spec.suspicious_above)
    )
    return Limits(sure, suspicious)


def choose_tiles(
    slides: Sequence[TrainingSlide], limits: Limits, spec: RefineSpec, rng: np.random.Generator
) -> list[ChosenTile]:
    """Return the tiles to learn from, in the order of slides and rows. Raises DataError if none is tumour.

    On a tumour slide with outlines, tiles are tumour if at least half of their area is inside, and normal if
    none is. On a tumour slide without, tiles above `limits.sure` are tumour. All tiles of normal slides are
    normal. Tumour slides take turns until there are `spec.tiles_per_class` tiles. Of the normal tiles half
    are the most suspicious ones, the others are drawn at random.
    """
    tumour: list[NDArray[np.int64]] = []
    normal: list[tuple[float, int, int]] = []
    for number, slide in enumerate(slides):
        finite = np.isfinite(slide.suspicion)
        if slide.lesions is not None and slide.label != NORMAL:
            inside = tile_overlap(slide.table, slide.lesions)
            sure, clear = finite & (inside >= 0.5), finite & (inside == 0)
        elif slide.label != NORMAL:
            sure, clear = finite & (slide.suspicion > limits.sure), np.zeros(len(finite), np.bool_)
        else:
            sure, clear = np.zeros(len(finite), np.bool_), finite
        tumour.append(rng.permutation(np.flatnonzero(sure)))
        normal += [(float(slide.suspicion[row]), number, int(row)) for row in np.flatnonzero(clear)]
    if not any(len(rows) for rows in tumour):
        raise DataError(
            f"refine: no tile of a tumour training slide has a probability above {limits.sure:.4g}, the "
            f"quantile {spec.sure_above:g} of tiles of normal slides: the slide model does not separate "
            "tumour from normal tiles. Train a better one, or set a smaller refine.sure_above"
        )
    found = [ChosenTile(number, row, TUMOUR) for number, row in _evenly(tumour, spec.tiles_per_class)]
    normal.sort(reverse=True)
    hard = normal[: spec.tiles_per_class // 2]
    rest = normal[len(hard) :]
    easy = rng.permutation(len(rest))[: spec.tiles_per_class - len(hard)].tolist()
    found += [ChosenTile(number, row, NORMAL) for _, number, row in [*hard, *(rest[i] for i in easy)]]
    return sorted(found, key=lambda tile: (tile.slide, tile.row))


def _evenly(rows: Sequence[NDArray[np.int64]], most: int) -> list[tuple[int, int]]:
    """Return at most `most` pairs (slide, row), one slide after the other in turn.

    A slide with a large tumour therefore does not displace the others.
    """
    turns = sorted(
        (turn, number, int(row)) for number, part in enumerate(rows) for turn, row in enumerate(part)
    )
    return [(number, row) for _, number, row in turns[:most]]


def read_training_tiles(
    slides: Sequence[TrainingSlide], chosen: Sequence[ChosenTile], reader: str, spec: RefineSpec
) -> TrainingTiles:
    """Return the pixels of the chosen tiles, with masks where outlines are known.

    Tiles that cannot be read are left out, and a warning gives their number."""
    by_slide: dict[int, list[ChosenTile]] = {}
    for tile in chosen:
        by_slide.setdefault(tile.slide, []).append(tile)

    def read(
        item: tuple[int, list[ChosenTile]],
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
        slide, rows = slides[item[0]], [tile.row for tile in item[1]]
        plan = plan_windows(slide.info, slide.table.spec, mpp=spec.mpp, map_mpp=spec.map_mpp, margin_um=0)
        with open_slide(
            slide.source.file, slide_id=slide.info.slide_id, reader=reader, mpp=slide.source.mpp
        ) as opened:
            pixels, readable = read_windows(opened, slide.table, rows, plan)
        return pixels, readable, _masks(slide, rows, plan.size_px)

    with ThreadPoolExecutor(available_cores(), thread_name_prefix="tiles") as pool:
        parts = list(progress(pool.map(read, by_slide.items()), total=len(by_slide), label="refine: reading"))
    pixels, readable, masks = (np.concatenate([part[i] for part in parts]) for i in range(3))
    tiles = [tile for part in by_slide.values() for tile in part]
    labels = np.array([tile.label for tile in tiles], np.int64)
    has_mask = np.array([slides[tile.slide].lesions is not None for tile in tiles], np.bool_)
    if not readable.all():
        logger().warning(
            "refine: %d of %d training tiles could not be read and are left out",
            (~readable).sum(),
            len(readable),
        )
    return TrainingTiles(pixels[readable], labels[readable], masks[readable], has_mask[readable])


def _masks(slide: TrainingSlide, rows: Sequence[int], side_px: int) -> NDArray[np.bool_]:
    """Return (B, S, S): for each tile, which pixels have their centre in an outline."""
    area = shapely.union_all([lesion.geometry for lesion in slide.lesions or ()])
    size0 = slide.table.plan.tile_width0_px, slide.table.plan.tile_height0_px
    return polygon_masks(area, slide.table.coords[list(rows)], size0, side_px)


def suspicious_rows(table: TileTable, probabilities: NDArray[np.float32], limit: float) -> NDArray[np.int32]:
    """Return the sorted rows (K,) of the tiles above `limit` and their eight neighbours on the tile grid."""
    finite = np.isfinite(probabilities)
    chosen = np.flatnonzero(finite & (probabilities > limit))
    if not len(chosen):
        return np.empty(0, np.int32)
    step0_px = table.spec.step_px * table.spec.mpp / np.array(table.mpp_xy)
    places = table.coords / step0_px
    near = cKDTree(places).query_ball_point(places[chosen], 1.25, p=np.inf)
    rows = np.unique(np.concatenate([np.asarray(part) for part in near]))
    return np.asarray(rows[finite[rows]], np.int32)
