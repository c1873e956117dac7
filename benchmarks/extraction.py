"""Slides to features against the machine's own limits: what reading, the encoder and both together reach, in
one run.

The limit of extraction is the slower of two: decoding the raw JPEG tiles below the asked tiles with
libjpeg-turbo, on every core, and the encoder's forward pass over batches that lie ready in memory, same
device and precision. Rounds take turns, medians are printed.

python benchmarks/extraction.py [--quick] [--json FILE] [--side 16384] [--backends torch openvino]
[--precisions fp32] [--peer tiatoolbox=PYTHON] [--peer lazyslide=PYTHON]

`--peer` runs another tool with the same weights on the first tiles of the same slide, by the Python of the
environment that it is installed in (benchmarks/peer.py); ours is measured before and after each, so that both
meet the same noise.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import torch
from torchvision import models

from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.execution.spec import available_cores
from wsi_mil.features import SlideStore, encode_tiles, extract_features
from wsi_mil.slides import open_slide
from wsi_mil.slides.readers.jpeg_tiles import JpegTilesReader
from wsi_mil.synthetic import Scanner, draw_anatomy, paint
from wsi_mil.synthetic.writing import write_pyramid
from wsi_mil.tiles import TileReader, tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

MPP, TILE_PX, SEED = 0.5, 256, 0
READ = 600  # regions a round
PEER_TILES = 512


@dataclass(frozen=True)
class Rate:
    """Items per second of wall time and per second of processor time."""

    wall: float
    cpu: float


def measure(task: Callable[[], int]) -> Rate:
    """`task` returns how many items it did."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = task()
    return Rate(count / (time.perf_counter() - wall), count / (time.process_time() - cpu))


def medians(tasks: dict[str, Callable[[], int]], rounds: int) -> dict[str, Rate]:
    """The median of `rounds`, tasks taking turns so that noise meets all of them; the first round warms up."""
    found: dict[str, list[Rate]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            rate = measure(task)
            if turn:
                found[name].append(rate)
    return {
        name: Rate(statistics.median(r.wall for r in rates), statistics.median(r.cpu for r in rates))
        for name, rates in found.items()
    }


def make_slide(path: Path, side_px: int) -> None:
    """A synthetic H&E slide with scanner noise, mirrored side by side until it is `side_px` wide; JPEG, 4 levels."""
    rng = np.random.default_rng(SEED)
    part_px = min(4096, side_px)
    anatomy = draw_anatomy(part_px * MPP, part_px * MPP, [], rng, rng)
    part = paint(anatomy, Scanner("bench", mpp=MPP), rng)
    noisy = part.astype(np.int16) + rng.normal(0, 4, part.shape).astype(np.int16)
    part = np.clip(noisy, 0, 255).astype(np.uint8)
    pair = np.concatenate([part, part[:, ::-1]], 1)
    block = np.concatenate([pair, pair[::-1]], 0)
    times = -(-side_px // block.shape[0])
    write_pyramid(
        path, np.tile(block, (times, times, 1))[:side_px, :side_px], (MPP, MPP), factor=4, quality=80
    )


def tile_table(path: Path) -> TileTable:
    with open_slide(path) as slide:
        return tile_slide(slide.info, find_tissue(slide, TissueSpec()), TileSpec(mpp=MPP, size_px=TILE_PX))


def decode_all(path: Path, table: TileTable, threads: int) -> int:
    """The raw JPEG tiles below the table's tiles, by libjpeg-turbo alone."""
    with open_slide(path, reader="jpeg_tiles") as slide:
        assert isinstance(slide, JpegTilesReader)
        level = slide._levels[0]
        numbers = table.coords[:, 1] // TILE_PX * level.columns + table.coords[:, 0] // TILE_PX
        file = os.open(path, os.O_RDONLY)

        def one(number: int) -> None:
            data = os.pread(file, int(level.byte_counts[number]), int(level.offsets[number]))
            imagecodecs.jpeg8_decode(data, tables=level.tables, outcolorspace=2)

        def several(part: np.ndarray) -> None:
            for number in part.tolist():
                one(number)

        if threads == 1:
            several(numbers)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(several, np.array_split(numbers, threads)))
        os.close(file)
    return len(numbers)


def read_regions(path: Path, table: TileTable, reader: str, shift_px: int) -> int:
    with open_slide(path, reader=reader) as slide:
        for x, y in table.coords.tolist():
            slide.read_region(x + shift_px, y + shift_px, 0, TILE_PX, TILE_PX)
    return len(table)


def half_table(path: Path, reader: str) -> TileTable:
    """Tiles at half the slide's scale, which its pyramid (1, 4, 16) lacks: averaged, or decoded at half size."""
    with open_slide(path, reader=reader) as slide:
        tissue = find_tissue(slide, TissueSpec())
        return part_of(tile_slide(slide.info, tissue, TileSpec(mpp=2 * MPP, size_px=TILE_PX)), READ // 4)


def read_tiles(path: Path, reader: str, table: TileTable) -> int:
    with open_slide(path, reader=reader) as slide:
        tiles = TileReader(slide, table)
        for row in range(len(table)):
            tiles.read(row)
    return len(table)


def part_of(table: TileTable, count: int) -> TileTable:
    """The first `count` tiles: whole rows of neighbours, as extraction meets them."""
    import dataclasses

    return dataclasses.replace(table, coords=table.coords[:count], tissue=table.tissue[:count])


def reading(path: Path, table: TileTable, rounds: int) -> dict[str, Any]:
    """One thread: regions per second of processor time, and as a share of raw decoding."""
    cv2.setNumThreads(1)
    table = part_of(table, READ)
    tasks: dict[str, Callable[[], int]] = {"raw tiles, libjpeg-turbo": lambda: decode_all(path, table, 1)}
    for reader in ("jpeg_tiles", "openslide", "tiffslide"):
        for kind, shift in (("aligned", 0), ("unaligned", 100)):
            tasks[f"{reader}, {kind}"] = lambda r=reader, s=shift: read_regions(path, table, r, s)  # type: ignore[misc]
    for reader in ("jpeg_tiles",):
        half = half_table(path, reader)
        tasks[f"{reader}, {2 * MPP} µm/px"] = lambda r=reader, t=half: read_tiles(path, r, t)  # type: ignore[misc]
    rates = medians(tasks, rounds)
    raw = rates["raw tiles, libjpeg-turbo"].cpu
    print(
        f"\nReading {len(table)} regions of {TILE_PX} px, one thread, 'unaligned': 100 px off the file's own tiles; the last: tiles at "
        f"half the scale, four of the file's tiles each\n"
    )
    print("| reader | regions/s of processor | share of raw decoding |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate.cpu:.0f} | {rate.cpu / raw:.2f} |")
    return {name: {"per_cpu_s": rate.cpu, "of_raw": rate.cpu / raw} for name, rate in rates.items()}


def bytes_read() -> int:
    """What this process has asked of files so far, wherever it came from; -1 where the system does not say."""
    counts = Path("/proc/self/io")
    return int(counts.read_text().split("rchar: ")[1].split()[0]) if counts.exists() else -1


def extraction(
    path: Path, table: TileTable, spec: EncoderSpec, rounds: int, threads: int, folder: Path
) -> dict[str, Any]:
    """Both limits and the whole, tiles/s of wall time on all threads; the features against plain OpenSlide in float32."""
    torch.set_num_threads(threads)
    encoder = build_encoder(spec, "auto")
    side = int(encoder.identity["input_px"])  # type: ignore[call-overload]
    ready = encoder.prepare(torch.zeros(spec.batch_size, side, side, 3, dtype=torch.uint8))  # type: ignore[attr-defined]
    store = SlideStore(folder / "bench.zarr", table.slide_id)
    with open_slide(path) as slide:
        store.write_tiles(table, slide.info, "bench")

    def forward() -> int:
        count = max(len(table) // spec.batch_size // 4, 2)
        for _ in range(count):
            encoder.forward(ready).cpu()  # type: ignore[attr-defined]
        return count * spec.batch_size

    read: list[int] = []

    def whole() -> int:
        before = bytes_read()
        with open_slide(path) as slide:
            tiles = extract_features(slide, store, encoder, spec, threads=threads).tiles
        read.append(bytes_read() - before)
        return tiles

    rates = medians(
        {"decode": lambda: decode_all(path, table, threads), "forward": forward, "end to end": whole}, rounds
    )
    limit = min(rates["decode"].wall, rates["forward"].wall)
    return {
        "tiles_per_s": rates["end to end"].wall,
        "decode_limit": rates["decode"].wall,
        "forward_limit": rates["forward"].wall,
        "ratio_to_limit": rates["end to end"].wall / limit,
        "tiles_per_cpu_s": rates["end to end"].cpu,
        "bytes_read": read[-1],
        **compared(path, store, spec, table),
    }


def compared(path: Path, store: SlideStore, spec: EncoderSpec, table: TileTable) -> dict[str, float]:
    """The first stored features against those of plain OpenSlide and float32 torch."""
    plain = build_encoder(spec.model_copy(update={"precision": "fp32", "backend": "torch"}), "cpu")
    few = part_of(table, 128)
    with open_slide(path, reader="openslide") as slide:
        expected = encode_tiles(slide, few, plain, batch_size=16, threads=1).features.astype(np.float64)
    found = store.read_features(spec.key).features[: len(few)].astype(np.float64)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    scale = np.abs(expected).max()
    return {
        "cosine_min": float(cosine.min()),
        "difference_max": float(np.abs(found - expected).max() / scale),
    }


def with_peer(
    name: str, python: str, path: Path, table: TileTable, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """The tool's tiles/s and ours on the same tiles, before and after it; features against each other."""
    few = part_of(table, min(PEER_TILES, len(table)))
    spec = EncoderSpec(name="torchvision:resnet18", weights="random", batch_size=options.batch)
    weights, coords, out = folder / "resnet18.pt", folder / "coords.npy", folder / f"{name}.npz"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        torch.save(models.resnet18().state_dict(), weights)
    np.save(coords, few.coords)
    stores = {
        backend: SlideStore(folder / f"peer_{backend}.zarr", table.slide_id) for backend in options.backends
    }
    encoders = {
        backend: build_encoder(spec.model_copy(update={"backend": backend}), "cpu") for backend in stores
    }
    rates: dict[str, list[float]] = {backend: [] for backend in stores}

    def ours(count: bool = True) -> None:
        for backend, store in stores.items():
            with open_slide(path) as slide:
                store.write_tiles(few, slide.info, "bench")
                started = time.perf_counter()
                tiles = extract_features(slide, store, encoders[backend], spec, threads=options.threads).tiles
            if count:
                rates[backend].append(tiles / (time.perf_counter() - started))

    ours(count=False)
    ours()
    script = Path(__file__).with_name("peer.py")
    sizes = (
        "--slide-px",
        options.side,
        "--tile-px",
        TILE_PX,
        "--mpp",
        MPP,
        "--batch",
        options.batch,
        "--threads",
        options.threads,
    )
    files = ("--weights", weights, "--coords", coords, "--out", out)
    command = [python, script, name, path, *files, *sizes]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    ours()
    with np.load(out) as saved:
        found: dict[str, Any] = json.loads(str(saved["info"]))
        theirs = dict(
            zip(
                map(tuple, saved["coords"].astype(int).tolist()),
                saved["features"].astype(np.float64),
                strict=True,
            )
        )
    mine = stores[options.backends[0]].read_features(spec.key).features.astype(np.float64)
    pairs = [
        (row, theirs[at])
        for row, at in zip(mine, map(tuple, few.coords.tolist()), strict=True)
        if at in theirs
    ]
    found["tiles_in_common"] = len(pairs)
    found["cosine_min"] = min(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs)
    found["ours"] = {backend: statistics.mean(values) for backend, values in rates.items()}
    return found


def peers(path: Path, table: TileTable, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    names = ", ".join(f"ours, {backend}" for backend in options.backends)
    print(
        f"\nOther tools, same weights, the first {PEER_TILES} tiles, fp32, the better of 0 and {options.threads} workers\n"
    )
    print(
        f"| tool | torch | workers | tiles/s | {names.replace(', ours', ' | ours')} | ratios | cosine, least | its peak GB |"
    )
    print("|---|---|---|---|" + "---|" * (len(options.backends) + 3))
    rows = []
    for peer in options.peer:
        name, _, python = peer.partition("=")
        row = with_peer(name, python, path, table, options, folder)
        rows.append(row)
        ours = " | ".join(f"{rate:.1f}" for rate in row["ours"].values())
        ratios = ", ".join(f"{rate / row['tiles_per_s']:.2f}" for rate in row["ours"].values())
        print(
            f"| {name} {row['version']} | {row['torch']} | {row['workers']} | {row['tiles_per_s']:.1f} | {ours} | {ratios} | "
            f"{row['cosine_min']:.5f} | {row['peak_gb']:.2f} |",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small slide, one round: that it runs, not how fast"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--encoder", default="torchvision:resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--backends", nargs="+", default=["torch"])
    parser.add_argument("--precisions", nargs="+", default=["fp32"])
    parser.add_argument(
        "--peer", action="append", default=[], metavar="TOOL=PYTHON", help="tiatoolbox or lazyslide"
    )
    parser.add_argument("--work", type=Path, help="keep the slide here (default: a temporary folder)")
    options = parser.parse_args()
    options.side, rounds = (2048, 1) if options.quick else (options.side, options.rounds)
    side = options.side
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"bench_{side}.tiff"
        if not path.exists():
            make_slide(path, side)
        table = tile_table(path)
        print(
            f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}; {side} x {side} px, "
            f"{path.stat().st_size / 1e6:.0f} MB, {len(table)} tiles of {TILE_PX} px, seed {SEED}, medians of {rounds}"
        )
        found: dict[str, Any] = {
            "side_px": side,
            "tiles": len(table),
            "seed": SEED,
            "threads": options.threads,
        }
        found["reading"] = reading(path, table, rounds)
        print(
            f"\n{options.encoder}, random weights, batches of {options.batch}, wall time on {options.threads} threads\n"
        )
        print(
            "| backend | precision | tiles/s | limit: decode | limit: forward | ratio to limit | cosine, least | difference | MB read |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        found["extraction"] = []
        for backend in options.backends:
            for precision in options.precisions:
                spec = EncoderSpec(
                    name=options.encoder,
                    weights="random",
                    batch_size=options.batch,
                    precision=precision,
                    backend=backend,
                )
                row = extraction(path, table, spec, rounds, options.threads, folder)
                found["extraction"].append({"backend": backend, "precision": precision, **row})
                print(
                    f"| {backend} | {precision} | {row['tiles_per_s']:.1f} | {row['decode_limit']:.0f} | {row['forward_limit']:.1f} | "
                    f"{row['ratio_to_limit']:.2f} | {row['cosine_min']:.5f} | {row['difference_max']:.1e} | {row['bytes_read'] / 1e6:.0f} |",
                    flush=True,
                )
        found["peers"] = peers(path, table, options, folder) if options.peer else []
        found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"\npeak memory of this process, slide making included: {found['peak_gb']:.2f} GB")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
