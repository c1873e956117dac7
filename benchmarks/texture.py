"""Rate of the texture encoder on one core: megapixels per second of processor time, by size of the tiles.

    python benchmarks/texture.py

To compare two versions, run it in both checkouts, one right after the other. Random tiles, seed 0.
"""

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.rates import medians
from wsi_mil.encoders import Encoder, EncoderSpec, build_encoder
from wsi_mil.io.tables import markdown_table

PIXELS = 1 << 20
SIZES_PX = (27, 64, 128, 256)


def _encode(encoder: Encoder, tiles: torch.Tensor) -> int:
    """Return how many pixels were encoded."""
    return len(encoder.encode(tiles)) * tiles.shape[1] ** 2


def main() -> None:
    torch.set_num_threads(1)
    encoder = build_encoder(EncoderSpec(name="texture"), "cpu")
    generator = torch.Generator().manual_seed(0)
    tasks: dict[str, Callable[[], int]] = {}
    for size_px in SIZES_PX:
        shape = (PIXELS // size_px**2, size_px, size_px, 3)
        tiles = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        tasks[str(size_px)] = partial(_encode, encoder, tiles)
    rates = medians(tasks, rounds=5)
    print(markdown_table(["tile px", "Mpx/s"], [[name, f"{r.cpu / 1e6:.1f}"] for name, r in rates.items()]))


if __name__ == "__main__":
    main()
