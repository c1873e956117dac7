"""Features on disk: what writing, opening and reading them costs, against a plain file of the same bytes.

    python benchmarks/stores.py [--rows 20000] [--dim 1024] [--rounds 5]

Warm page cache, one thread, float16, seed 0. "mapped" is what training reads with, "Zarr" what any other tool
does.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.features import FeatureOrigin, SlideStore
from wsi_mil.io.tables import markdown_table
from wsi_mil.slides import ArrayReader
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

BATCH, SEED = 512, 0


def seconds(task: Callable[[], object], rounds: int) -> float:
    task()
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        task()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    rng = np.random.default_rng(SEED)
    side = int(np.ceil(options.rows**0.5))
    reader = ArrayReader(np.zeros((side, side, 3), np.uint8), mpp=1.0, slide_id="s")
    table = tile_slide(
        reader.info, find_tissue(reader, TissueSpec(method="whole")), TileSpec(mpp=1.0, size_px=1)
    )
    values = rng.normal(size=(len(table), options.dim)).astype(np.float16)
    readable, rows = np.ones(len(table), bool), np.sort(rng.choice(len(table), BATCH, replace=False))
    out = np.empty_like(values)
    with tempfile.TemporaryDirectory() as folder:
        store, plain = SlideStore(Path(folder, "s.zarr"), "s"), Path(folder, "plain.npy")
        store.write_tiles(table, reader.info, "x")

        def write() -> None:
            with store.write_features("f", options.dim, FeatureOrigin({"name": "f"}, "x")) as writer:
                for start in range(0, len(values), BATCH):
                    writer.append(values[start : start + BATCH], readable[start : start + BATCH])

        def read_mapped() -> None:
            done = 0
            for block in mapped.blocks():
                out[done : done + len(block)] = block
                done += len(block)

        times = {
            "write": seconds(write, options.rounds),
            "write, np.save": seconds(lambda: np.save(plain, values), options.rounds),
        }
        mapped, array = (
            store.map_features("f"),
            zarr.open_group(str(store.path / "features" / "f"), mode="r")["features"],
        )
        memmap = np.load(plain, mmap_mode="r")
        read_mapped()
        assert (out == values).all()
        assert (np.asarray(array.oindex[rows, :]) == values[rows]).all()
        times |= {
            "open, digest compared": seconds(lambda: store.map_features("f"), options.rounds),
            "open": seconds(lambda: store.map_features("f", check=False), options.rounds),
            "read the bag, mapped": seconds(read_mapped, options.rounds),
            "read the bag, np.memmap": seconds(lambda: np.copyto(out, memmap), options.rounds),
            "read the bag, Zarr": seconds(lambda: array[:], options.rounds),
            f"{BATCH} random rows, mapped": seconds(
                lambda: [next(mapped.blocks(row, row + 1)).copy() for row in rows.tolist()], options.rounds
            ),
            f"{BATCH} random rows, Zarr": seconds(lambda: array.oindex[rows, :], options.rounds),
            f"{BATCH} random rows, np.memmap": seconds(lambda: memmap[rows], options.rounds),
        }
        print(
            f"{platform.machine()}, {len(table)} x {options.dim} float16, {values.nbytes / 1e6:.0f} MB, "
            f"median of {options.rounds}, seed {SEED}\n"
        )
        print_times(times, values.nbytes, BATCH / len(table))
        print_files(store.path, values.nbytes)


def print_times(times: dict[str, float], size_bytes: int, batch_fraction: float) -> None:
    """batch_fraction: the part of the bag that the random rows are."""
    lines = []
    for name, time_s in times.items():
        fraction = batch_fraction if "rows" in name else 1.0
        rate = "" if name == "open" else f"{size_bytes * fraction / time_s / 1e9:.1f}"
        lines.append([name, f"{time_s * 1e3:.1f}", rate])
    print(markdown_table(["what", "ms", "GB/s"], lines))


def print_files(store: Path, size_bytes: int) -> None:
    files = [path for path in store.rglob("*") if path.is_file()]
    print(
        f"\nfiles of the store: {len(files)}, of which "
        f"{sum(path.name == 'zarr.json' for path in files)} zarr.json; "
        f"size over plain: {sum(path.stat().st_size for path in files) / size_bytes:.3f}"
    )


if __name__ == "__main__":
    main()
