"""A million tiles as GeoJSON for QuPath: time, memory and size of the file.

    python benchmarks/geojson.py [--tiles 1000000]

Tiles of 256 px with random probabilities (seed 0), streamed by the code of the heatmap stage. Memory is the
growth of the process's peak over what the scores themselves take. The file is then read back with GDAL, which
counts the features.
"""

import argparse
import math
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyogrio

from wsi_mil.contracts.qupath import qupath_frame
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.geojson import write_features
from wsi_mil.heatmaps import tile_features
from wsi_mil.io.tables import markdown_row, markdown_table
from wsi_mil.tiles import plan_reading, tile_grid


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=1_000_000)
    count = parser.parse_args().tiles
    side = 256 * math.ceil(math.sqrt(count))
    info = SlideInfo("benchmark", "", ((side, side),), (1.0,), 0.25, 0.25, "benchmark", None, "", "", "")
    spec = TileSpec(mpp=0.25, size_px=256)
    coords = tile_grid(info, spec)[:count]
    ones = np.ones(len(coords), np.float32)
    table = TileTable("benchmark", spec, plan_reading(info, spec), coords, ones, (side, side), (0.25, 0.25))
    values = np.random.default_rng(0).random(len(coords)).astype(np.float32)
    scores = SlideScores("benchmark", 0.9, (0.1, 0.9), values, "probability", coords, "", "", "")
    head = ["file", "tiles", "s", "growth of the peak, MB", "size, MB", "features that GDAL reads"]
    print(markdown_table(head, []))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tiles.geojson.gz", "tiles.geojson"):
            before, started = peak_mb(), time.perf_counter()
            path = Path(folder) / name
            written = write_features(
                path, tile_features(scores, table, qupath_frame(info), 0.5, "benchmark"), {"kind": "heatmap"}
            )
            seconds, grown = time.perf_counter() - started, peak_mb() - before
            read = "-" if path.suffix == ".gz" else str(pyogrio.read_info(path)["features"])
            size = path.stat().st_size / 1e6
            cells = [name, f"{written:,}", f"{seconds:.1f}", f"{grown:.0f}", f"{size:.0f}", read]
            print(markdown_row(cells), flush=True)


if __name__ == "__main__":
    main()
