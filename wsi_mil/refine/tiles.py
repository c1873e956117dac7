"""Which tiles a refiner learns from, and which tiles it refines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wsi_mil.attention2d.supervision import polygon_masks
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.contracts.slide import SlideInfo, SlideSource
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import DataError
from wsi_mil.evaluation import tile_overlap
from wsi_mil.execution.activity import activity
from wsi_mil.features import SlideStore
from wsi_mil.features.tiled import open_tiled
from wsi_mil.logs import logger
from wsi_mil.refine.network import NORMAL, TUMOUR, TrainingTiles
from wsi_mil.refine.refiner import Limits
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.tiles.windows import plan_windows, read_windows


@dataclass(frozen=True)
class TrainingSlide:
    """A labelled training slide.

    label: `NORMAL` or `TUMOUR`. scores: those of the slide model. lesions: its outlines; None if it has no
    outlines. store: holds its tiles.
    """

    source: SlideSource
    store: SlideStore
    info: SlideInfo
    table: TileTable
    label: int
    scores: SlideScores
    lesions: tuple[Lesion, ...] | None


@dataclass(frozen=True)
class ChosenTile:
    """A tile to learn from: number of its slide, row in that slide's tile table, and label."""

    slide: int
    row: int
    label: int


@dataclass(frozen=True)
class TileJob:
    """The chosen tiles of one slide, in values that pickle.

    rows: of its tile table, with their `labels`. lesions: None if it has no outlines.
    """

    slide_id: str
    source: SlideSource
    store: SlideStore
    reader: str
    spec: RefineSpec
    rows: tuple[int, ...]
    labels: tuple[int, ...]
    lesions: tuple[Lesion, ...] | None


@dataclass(frozen=True)
class SlideTiles:
    """What was read of one slide: arrays as in `TrainingTiles`, and how many tiles could not be read."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]
    has_mask: bool
    unreadable: int


def find_limits(slides: Sequence[TrainingSlide], spec: RefineSpec, of_slides: float) -> Limits:
    """Return the limits: quantiles over tiles of normal training slides, and the threshold `of_slides`.

    Raises DataError without normal slides.
    """
    scored = [slide.scores.tile_scores01() for slide in slides if slide.label == NORMAL]
    if not scored:
        raise DataError(
            "refine: no normal training slide, whose tiles are needed to decide which tiles are suspicious"
        )
    values = np.concatenate(scored)
    values = values[np.isfinite(values)]
    sure, suspicious = (
        float(np.quantile(values, quantile)) for quantile in (spec.sure_above, spec.suspicious_above)
    )
    return Limits(sure, suspicious, of_slides)


def choose_tiles(
    slides: Sequence[TrainingSlide], limits: Limits, spec: RefineSpec, rng: np.random.Generator
) -> list[ChosenTile]:
    """Return the tiles to learn from, in the order of slides and rows. Raises DataError if none is tumour.

    On a tumour slide with outlines, tiles are tumour if at least half of their area is inside, and normal if
    none is. On a tumour slide without, eligible tiles above `limits.sure` are tumour. All tiles of normal
    slides are normal. Tumour slides take turns until there are `spec.tiles_per_class` tiles. Of the normal
    tiles half are the most suspicious ones, the others are drawn at random.
    """
    tumour: list[NDArray[np.int64]] = []
    normal: list[tuple[float, int, int]] = []
    for number, slide in enumerate(slides):
        suspicion = slide.scores.tile_scores01()
        finite = np.isfinite(suspicion)
        if slide.lesions is not None and slide.label != NORMAL:
            inside = tile_overlap(slide.table, slide.lesions)
            sure, clear = finite & (inside >= 0.5), finite & (inside == 0)
        elif slide.label != NORMAL:
            sure, clear = _above(slide.scores, limits.sure, limits), np.zeros(len(finite), np.bool_)
        else:
            sure, clear = np.zeros(len(finite), np.bool_), finite
        tumour.append(rng.permutation(np.flatnonzero(sure)))
        normal += [(float(suspicion[row]), number, int(row)) for row in np.flatnonzero(clear)]
    if not any(len(rows) for rows in tumour):
        raise DataError(
            f"refine: no tile of a tumour training slide has a score above {limits.sure:.4g}, the quantile "
            f"{spec.sure_above:g} of tiles of normal slides, and is called, if its score is attention: the "
            "slide model does not separate tumour from normal tiles. Train a better one, or set a smaller "
            "refine.sure_above"
        )
    found = [ChosenTile(number, row, TUMOUR) for number, row in _evenly(tumour, spec.tiles_per_class)]
    normal.sort(reverse=True)
    hard = normal[: spec.tiles_per_class // 2]
    rest = normal[len(hard) :]
    easy = rng.permutation(len(rest))[: spec.tiles_per_class - len(hard)].tolist()
    found += [ChosenTile(number, row, NORMAL) for _, number, row in [*hard, *(rest[i] for i in easy)]]
    return sorted(found, key=lambda tile: (tile.slide, tile.row))


def _above(scores: SlideScores, limit: float, limits: Limits) -> NDArray[np.bool_]:
    """Return (N,): which tiles are above one of the limits, and may be called at all."""
    return scores.eligible_tiles(limits.of_slides) & (scores.tile_scores01() > limit)


def _evenly(rows: Sequence[NDArray[np.int64]], most: int) -> list[tuple[int, int]]:
    """Return at most `most` pairs (slide, row), one slide after the other in turn.

    A slide with a large tumour therefore does not displace the others.
    """
    turns = sorted(
        (turn, number, int(row)) for number, part in enumerate(rows) for turn, row in enumerate(part)
    )
    return [(number, row) for _, number, row in turns[:most]]


def tile_jobs(
    slides: Sequence[TrainingSlide], chosen: Sequence[ChosenTile], reader: str, spec: RefineSpec
) -> list[TileJob]:
    """Return what is to be read of each slide that tiles were chosen from, in the order of `chosen`."""
    by_slide: dict[int, list[ChosenTile]] = {}
    for tile in chosen:
        by_slide.setdefault(tile.slide, []).append(tile)
    return [
        TileJob(
            slides[number].info.slide_id,
            slides[number].source,
            slides[number].store,
            reader,
            spec,
            tuple(tile.row for tile in tiles),
            tuple(tile.label for tile in tiles),
            slides[number].lesions,
        )
        for number, tiles in by_slide.items()
    ]


def read_tiles(job: TileJob) -> SlideTiles:
    """Return the pixels of the chosen tiles of one slide, with masks where its outlines are known.

    Tiles that cannot be read are left out. Raises DataError or SlideError for a slide that cannot be read, or
    whose file is not the one that was tiled.
    """
    info, table = job.store.read_info(), job.store.read_tiles()
    plan = plan_windows(info, table.spec, mpp=job.spec.mpp, map_mpp=job.spec.map_mpp, margin_um=0)
    with open_tiled(job.source, job.reader, job.store) as slide:
        with activity(job.slide_id, "reading tiles to learn from"):
            pixels, readable = read_windows(slide, table, job.rows, plan)
        slide.check_unchanged()
    masks = _masks(table, job.lesions, job.rows, plan.size_px)
    labels = np.array(job.labels, np.int64)
    unreadable = int((~readable).sum())
    return SlideTiles(
        pixels[readable], labels[readable], masks[readable], job.lesions is not None, unreadable
    )


def join_tiles(parts: Sequence[SlideTiles]) -> TrainingTiles:
    """Return the tiles of all slides; a warning gives the number of those that could not be read.

    Raises DataError if a class has no tile.
    """
    unreadable = sum(part.unreadable for part in parts)
    if unreadable:
        logger().warning(
            "refine: %d of %d training tiles could not be read and are left out",
            unreadable,
            unreadable + sum(len(part.labels) for part in parts),
        )
    return TrainingTiles(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.masks for part in parts]),
        np.concatenate([np.full(len(part.labels), part.has_mask) for part in parts]),
    )


def _masks(
    table: TileTable, lesions: Sequence[Lesion] | None, rows: Sequence[int], side_px: int
) -> NDArray[np.bool_]:
    """Return (B, S, S): for each tile, which pixels have their centre in an outline."""
    area = shapely.union_all([lesion.geometry for lesion in lesions or ()])
    size0 = table.plan.tile_width0_px, table.plan.tile_height0_px
    return polygon_masks(area, table.coords[list(rows)], size0, side_px)


def suspicious_rows(table: TileTable, scores: SlideScores, limits: Limits) -> NDArray[np.int32]:
    """Return the sorted rows (K,) of the eligible tiles above `limits.suspicious` and their eight neighbours
    on the tile grid."""
    finite = np.isfinite(scores.tile_scores01())
    chosen = np.flatnonzero(_above(scores, limits.suspicious, limits))
    if not len(chosen):
        return np.empty(0, np.int32)
    step0_px = table.spec.step_px * table.spec.mpp / np.array(table.mpp_xy)
    places = table.coords / step0_px
    near = cKDTree(places).query_ball_point(places[chosen], 1.25, p=np.inf)
    rows = np.unique(np.concatenate([np.asarray(part) for part in near]))
    return np.asarray(rows[finite[rows]], np.int32)
