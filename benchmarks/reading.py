"""A synthetic slide, and what reading its tiles costs: our readers against libjpeg-turbo alone."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np

from benchmarks.rates import medians
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.io.tables import markdown_table
from wsi_mil.slides import open_slide
from wsi_mil.slides.readers.jpeg_tiles import JpegTilesReader
from wsi_mil.synthetic import Scanner, draw_anatomy, paint
from wsi_mil.synthetic.writing import write_pyramid
from wsi_mil.tiles import TileReader, tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

MPP, TILE_PX, SEED = 0.5, 256, 0
READ = 600  # regions a round


def make_slide(path: Path, side_px: int) -> None:
    """Write a synthetic H&E slide with scanner noise, mirrored until it is `side_px` wide; JPEG, 4 levels."""
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
    """Decode the file's JPEG tiles below the table's tiles by libjpeg-turbo alone; return their number."""
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
    """Return tiles at half the slide's scale, which its pyramid (1, 4, 16) lacks."""
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
    """Return the first `count` tiles: whole rows of neighbours, in the order of extraction."""
    return replace(table, coords=table.coords[:count], tissue=table.tissue[:count])


def reading(path: Path, table: TileTable, rounds: int) -> dict[str, Any]:
    """Print and return regions per second of processor time, one thread, and the ratio to raw decoding."""
    cv2.setNumThreads(1)
    table = part_of(table, READ)
    tasks: dict[str, Callable[[], int]] = {"raw tiles, libjpeg-turbo": lambda: decode_all(path, table, 1)}
    for reader in ("jpeg_tiles", "openslide", "tiffslide"):
        for kind, shift in (("aligned", 0), ("unaligned", 100)):
            tasks[f"{reader}, {kind}"] = partial(read_regions, path, table, reader, shift)
    half = half_table(path, "jpeg_tiles")
    tasks[f"jpeg_tiles, {2 * MPP} µm/px"] = partial(read_tiles, path, "jpeg_tiles", half)
    rates = medians(tasks, rounds)
    raw = rates["raw tiles, libjpeg-turbo"].cpu
    print(
        f"\nReading {len(table)} regions of {TILE_PX} px, one thread. unaligned: 100 px off the file's own "
        "tiles. The last row: tiles at half the scale, four of the file's tiles each.\n"
    )
    rows = [[name, f"{rate.cpu:.0f}", f"{rate.cpu / raw:.2f}"] for name, rate in rates.items()]
    print(markdown_table(["reader", "regions/s of processor", "fraction of raw decoding"], rows))
    return {name: {"per_cpu_s": rate.cpu, "of_raw": rate.cpu / raw} for name, rate in rates.items()}
