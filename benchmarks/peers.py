"""Features by another tool on the same tiles with the same weights, and our own rate before and after it."""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import models

from benchmarks.reading import MPP, TILE_PX, part_of
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.features import SlideStore, extract_features
from wsi_mil.io.json import parse_json
from wsi_mil.io.tables import markdown_row, markdown_table
from wsi_mil.slides import open_slide

PEER_TILES = 512
SCRIPT = Path(__file__).with_name("peer.py")


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
    run_peer(name, python, path, weights, coords, out, options)
    ours()
    features = stores[options.backends[0]].read_features(spec.key).features.astype(np.float64)
    found = compare_with_peer(out, features, few)
    found["ours"] = {backend: statistics.mean(values) for backend, values in rates.items()}
    return found


def run_peer(
    name: str,
    python: str,
    path: Path,
    weights: Path,
    coords: Path,
    out: Path,
    options: argparse.Namespace,
) -> None:
    """Run peer.py in the environment of the other tool. Leaves this program if it fails."""
    sizes = ("--slide-px", options.side, "--tile-px", TILE_PX, "--mpp", MPP)
    speed = ("--batch", options.batch, "--threads", options.threads)
    files = ("--weights", weights, "--coords", coords, "--out", out)
    command = [python, SCRIPT, name, path, *files, *sizes, *speed]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")


def compare_with_peer(out: Path, features: np.ndarray, tiles: TileTable) -> dict[str, Any]:
    """Return what peer.py wrote about itself, and the smallest cosine of its features and `features`."""
    with np.load(out) as saved:
        found: dict[str, Any] = parse_json(str(saved["info"]))
        corners = map(tuple, saved["coords"].astype(int).tolist())
        theirs = dict(zip(corners, saved["features"].astype(np.float64), strict=True))
    at = map(tuple, tiles.coords.tolist())
    pairs = [(row, theirs[corner]) for row, corner in zip(features, at, strict=True) if corner in theirs]
    found["tiles_in_common"] = len(pairs)
    found["cosine_min"] = min(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs)
    return found


def peers(path: Path, table: TileTable, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Print one line per tool, and return its results."""
    ours = [f"ours, {backend}" for backend in options.backends]
    print(
        f"\nOther tools, same weights, the first {PEER_TILES} tiles, fp32, the better of 0 and "
        f"{options.threads} workers\n"
    )
    head = ["tool", "torch", "workers", "tiles/s", *ours, "ratios", "cosine, least", "its peak GB"]
    print(markdown_table(head, []))
    rows = []
    for peer in options.peer:
        name, _, python = peer.partition("=")
        row = with_peer(name, python, path, table, options, folder)
        rows.append(row)
        cells = [f"{name} {row['version']}", row["torch"], str(row["workers"]), f"{row['tiles_per_s']:.1f}"]
        cells += [f"{rate:.1f}" for rate in row["ours"].values()]
        cells.append(", ".join(f"{rate / row['tiles_per_s']:.2f}" for rate in row["ours"].values()))
        cells += [f"{row['cosine_min']:.5f}", f"{row['peak_gb']:.2f}"]
        print(markdown_row(cells), flush=True)
    return rows
