"""From an unopened slide to its tissue outline and tile table: time and memory for whole slides of two sizes.

    python benchmarks/tissue.py [--sides 40960 102400] [--mpps 0.5 0.25] [--rounds 5]

The slides are JPEG pyramids of which only the coarse level holds pixels (a tenth of a gigapixel need not be
painted for it): tissue with ragged edges and holes on 55 % of the slide, scanner noise, seed 0. Each size
runs in a process of its own; memory is its peak's growth.
"""

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tifffile

from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.io.tables import markdown_row, markdown_table
from wsi_mil.slides import open_slide
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

TILE_PX, STEP, LEVEL_MPP, SHARE, SEED = 256, 4, 8.0, 0.55, 0


def coarse_image(side_px: int) -> np.ndarray:
    """Tissue of two grains, so that its edges are ragged, and glass; with noise."""
    rng = np.random.default_rng(SEED)
    field = sum(
        weight
        * cv2.GaussianBlur(rng.normal(size=(side_px, side_px)).astype(np.float32), (0, 0), sigma)
        * sigma
        for sigma, weight in ((side_px / 40, 1.0), (6.0, 0.35))
    )
    tissue = field > np.quantile(field, 1 - SHARE)
    image = np.where(tissue[..., None], np.array([196, 128, 176]), np.array([243, 242, 244]))
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def write_sparse(path: Path, side_px: int, mpp: float) -> None:
    """A pyramid of factor 4 down to 8 µm/px, whose finer levels list their tiles as left out."""
    levels = round(np.log(LEVEL_MPP / mpp) / np.log(STEP))
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(levels + 1):
            size, scale = side_px // STEP**level, 10_000 / (mpp * STEP**level)
            options = {
                "tile": (TILE_PX, TILE_PX),
                "photometric": "rgb",
                "compression": "jpeg",
                "metadata": None,
                "resolution": (scale, scale),
                "resolutionunit": "CENTIMETER",
                "subfiletype": 1 if level else 0,
            }
            if level == levels:
                tiff.write(coarse_image(size), **options)
            else:
                empty = iter([b""] * (-(-size // TILE_PX)) ** 2)
                tiff.write(empty, shape=(size, size, 3), dtype=np.uint8, **options)


def memory_mb(kind: str) -> float:
    """What the system says of this process: VmRSS now, VmHWM at its highest."""
    status = Path("/proc/self/status")
    return (
        float(status.read_text().split(f"{kind}:")[1].split()[0]) / 1e3 if status.exists() else float("nan")
    )


def measure(
    path: Path,
    mpp: float,
    rounds: int,
    answers: "multiprocessing.Queue[tuple[float, float, float, float, int, int]]",
) -> None:
    seconds, before = [], memory_mb("VmRSS")
    for _ in range(rounds):
        started = time.perf_counter()
        with open_slide(path) as slide:
            tissue = find_tissue(slide, TissueSpec(mpp=LEVEL_MPP))
            found = time.perf_counter()
            table = tile_slide(slide.info, tissue, TileSpec(mpp=0.5, size_px=TILE_PX))
        seconds.append((found - started, time.perf_counter() - found))
    peak = memory_mb("VmHWM") - before
    first, outline, grid = (
        sum(seconds[0]),
        statistics.median(s[0] for s in seconds),
        statistics.median(s[1] for s in seconds),
    )
    answers.put((first, outline, grid, peak, len(tissue.polygons.geoms), len(table)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[40_960, 102_400])
    parser.add_argument("--mpps", type=float, nargs="+", default=[0.5, 0.25])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {multiprocessing.cpu_count()} cores, median of {options.rounds}, "
        f"seed {SEED}\n"
    )
    head = ["slide", "first call", "tissue", "tiles", "both", "peak memory", "pieces"]
    print(markdown_table([*head, "tiles of 256 px at 0.5 µm/px"], []))
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for side, mpp in zip(options.sides, options.mpps, strict=True):
            path = Path(folder, f"{side}.tiff")
            write_sparse(path, side, mpp)
            answers = context.Queue()
            process = context.Process(target=measure, args=(path, mpp, options.rounds, answers))
            process.start()
            first, outline, grid, peak, pieces, tiles = answers.get()
            process.join()
            seconds = [f"{value:.2f} s" for value in (first, outline, grid, outline + grid)]
            cells = [f"{side} x {side} px, {mpp} µm/px", *seconds, f"{peak:.0f} MB", str(pieces), str(tiles)]
            print(markdown_row(cells), flush=True)


if __name__ == "__main__":
    main()
