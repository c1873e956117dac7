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
import platform
import resource
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers import peers
from benchmarks.rates import medians
from benchmarks.reading import SEED, TILE_PX, decode_all, make_slide, part_of, reading, tile_table
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.execution.spec import available_cores
from wsi_mil.features import SlideStore, encode_tiles, extract_features
from wsi_mil.io.json import write_json
from wsi_mil.io.tables import markdown_row, markdown_table
from wsi_mil.slides import open_slide


def bytes_read() -> int:
    """Return how many bytes this process has read from files so far; -1 if the system does not state it."""
    counts = Path("/proc/self/io")
    return int(counts.read_text().split("rchar: ")[1].split()[0]) if counts.exists() else -1


def extraction(
    path: Path, table: TileTable, spec: EncoderSpec, rounds: int, threads: int, folder: Path
) -> dict[str, Any]:
    """Return both limits and the rate of extraction, in tiles/s of wall time on all threads."""
    torch.set_num_threads(threads)
    encoder = build_encoder(spec, "auto")
    side = int(encoder.identity["input_px"])  # type: ignore[call-overload]
    pixels = torch.zeros(spec.batch_size, side, side, 3, dtype=torch.uint8)
    ready = encoder.prepare(pixels)  # type: ignore[attr-defined]
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
    """Return how far the first stored features differ from those of plain OpenSlide and float32 torch."""
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


HEAD = (
    "backend",
    "precision",
    "tiles/s",
    "limit: decode",
    "limit: forward",
    "ratio to limit",
    "cosine, least",
    "difference",
    "MB read",
)


def extractions(
    path: Path, table: TileTable, options: argparse.Namespace, rounds: int, folder: Path
) -> list[dict[str, Any]]:
    """Print one line per backend and precision, and return its results."""
    print(
        f"\n{options.encoder}, random weights, batches of {options.batch}, wall time on "
        f"{options.threads} threads\n"
    )
    print(markdown_table(HEAD, []))
    rows = []
    for backend, precision in product(options.backends, options.precisions):
        spec = EncoderSpec(
            name=options.encoder,
            weights="random",
            batch_size=options.batch,
            precision=precision,
            backend=backend,
        )
        row = extraction(path, table, spec, rounds, options.threads, folder)
        rows.append({"backend": backend, "precision": precision, **row})
        rates = [f"{row['tiles_per_s']:.1f}", f"{row['decode_limit']:.0f}", f"{row['forward_limit']:.1f}"]
        found = [f"{row['ratio_to_limit']:.2f}", f"{row['cosine_min']:.5f}", f"{row['difference_max']:.1e}"]
        cells = [backend, precision, *rates, *found, f"{row['bytes_read'] / 1e6:.0f}"]
        print(markdown_row(cells), flush=True)
    return rows


def parse_options() -> argparse.Namespace:
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
    return parser.parse_args()


def main() -> None:
    options = parse_options()
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
            f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}; "
            f"{side} x {side} px, {path.stat().st_size / 1e6:.0f} MB, {len(table)} tiles of {TILE_PX} px, "
            f"seed {SEED}, medians of {rounds}"
        )
        found: dict[str, Any] = {
            "side_px": side,
            "tiles": len(table),
            "seed": SEED,
            "threads": options.threads,
        }
        found["reading"] = reading(path, table, rounds)
        found["extraction"] = extractions(path, table, options, rounds, folder)
        found["peers"] = peers(path, table, options, folder) if options.peer else []
        found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"\npeak memory of this process, slide making included: {found['peak_gb']:.2f} GB")
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
