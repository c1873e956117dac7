"""A slide, its tile table, scores and a run folder made by hand, so that a stage is tested without the stages
before it."""

from pathlib import Path

import numpy as np
import tifffile

from wsi_mil.bags.splits import Fold, Split, SplitSpec
from wsi_mil.config import RunConfig
from wsi_mil.config.loading import parse_config
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores
from wsi_mil.contracts.slide import SlideInfo, SlideSource
from wsi_mil.contracts.tiles import ReadPlan, TileSpec, TileTable
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder

WIDTH, HEIGHT = 640, 448
"""Size of the slide in pixels of 1 µm; not square, so that swapped axes are seen."""
LEFT, TOP, RIGHT, BOTTOM = 128, 64, 512, 320
"""The rectangle of tissue, in pixels."""
SIZE = 64
"""Side of a tile, in pixels: 6 x 4 tiles lie inside the rectangle."""
TILES = TileSpec(mpp=1.0, size_px=SIZE)
TISSUE = {"method": "threshold", "mpp": 2.0, "blur_um": 0, "close_um": 0}
MODEL, ENCODER = "m", "texture"


def pixels(seed: int = 0, tissue: bool = True) -> np.ndarray:
    """White glass with a rectangle of pink, uneven tissue."""
    image = np.full((HEIGHT, WIDTH, 3), 243, np.uint8)
    if tissue:
        noise = np.random.default_rng(seed).integers(-30, 30, (BOTTOM - TOP, RIGHT - LEFT, 3))
        image[TOP:BOTTOM, LEFT:RIGHT] = np.array([200, 120, 170]) + noise
    return image


def write_slide(path: Path, image: np.ndarray) -> Path:
    """Write a tiled TIFF of 1 µm per pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        image,
        tile=(128, 128),
        photometric="rgb",
        metadata=None,
        resolution=(10_000, 10_000),
        resolutionunit="CENTIMETER",
    )
    return path


def source(folder: Path, slide_id: str = "s0", image: np.ndarray | None = None) -> SlideSource:
    """A slide that is written into `folder`."""
    path = write_slide(folder / f"{slide_id}.tiff", pixels() if image is None else image)
    return SlideSource(slide_id, path, None)


def info(slide_id: str = "s0") -> SlideInfo:
    """What a store says of the slide."""
    return SlideInfo(
        slide_id, "", ((WIDTH, HEIGHT),), (1.0,), 1.0, 1.0, "by hand", None, "generic-tiff", "by hand", "1"
    )


def table(slide_id: str = "s0") -> TileTable:
    """The 24 tiles of the rectangle, sorted by (y, x)."""
    corners = [(x, y) for y in range(TOP, BOTTOM, SIZE) for x in range(LEFT, RIGHT, SIZE)]
    coords = np.array(corners, np.int32)
    plan = ReadPlan(0, 1.0, 1.0, SIZE, SIZE, float(SIZE), float(SIZE))
    return TileTable(
        slide_id, TILES, plan, coords, np.ones(len(coords), np.float32), (WIDTH, HEIGHT), (1.0, 1.0)
    )


def scores(values: np.ndarray, slide_id: str = "s0", kind: str = "probability") -> SlideScores:
    """Tile scores of model "model digest" on `table(slide_id)`; the slide's probability is the largest
    one."""
    tiles = table(slide_id)
    top = float(values.max()) if kind == "probability" else 0.9
    return SlideScores(
        slide_id,
        top,
        (1 - top, top),
        values.astype(np.float32),
        kind,
        tiles.coords,
        tiles.digest(),
        "features digest",
        "model digest",
    )


def score_row(
    slide_id: str = "s0", probability: float = 0.9, label: int | None = 1, part: str = "test"
) -> SlideScoreRow:
    """A row of slides.parquet whose threshold is 0.5."""
    return SlideScoreRow(
        slide_id=slide_id,
        patient=f"patient of {slide_id}",
        fold=0,
        part=part,
        label=label,
        probability=probability,
        threshold=0.5,
        predicted=probability >= 0.5,
        tiles=24,
        tiles_digest=table(slide_id).digest(),
        features_digest="features digest",
        model_digest="model digest",
    )


def split(test: tuple[str, ...], train: tuple[str, ...] = ("t",), val: tuple[str, ...] = ("v",)) -> Split:
    """A split of one fold."""
    return Split(SplitSpec(), (Fold(train, val, test),))


def config(folder: Path, **changes: object) -> RunConfig:
    """The configuration of a run in folder/run on the slides in folder/slides."""
    values: dict[str, object] = {
        "run": str(folder / "run"),
        "slides": {"folder": str(folder / "slides")},
        "tiles": {"mpp": 1.0, "size_px": SIZE},
        "tissue": TISSUE,
        "models": {MODEL: {"aggregator": "mi_net"}},
        "execution": {"workers": 1, "threads": 1},
        "evaluation": {"bootstrap": 40},
        "heatmaps": {"overlay_px": 200},
    }
    return parse_config({**values, **changes})


def context(folder: Path, sources: tuple[SlideSource, ...] = (), **changes: object) -> RunContext:
    """The context of that run, without labels; nothing is written."""
    return RunContext(config(folder, **changes), RunFolder(folder / "run"), sources, None)


def store_tiles(run: RunFolder, slide_id: str = "s0") -> None:
    """Write the hand-made tile table into the slide's store."""
    run.store(slide_id).write_tiles(table(slide_id), info(slide_id), "made by hand")
