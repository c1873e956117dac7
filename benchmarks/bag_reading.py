"""Reading bags from disk: an epoch against numpy.memmap, and what loading beside the computation gains."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.bag_tasks import DIM, lengths, medians, print_table, step, write_bag
from wsi_mil.aggregators import build_aggregator
from wsi_mil.bags import StoredBag
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.training import Standardizer
from wsi_mil.training.loading import Buffer, packed_batches

MEMMAP = "numpy.memmap, copied as it is (float16)"


def reading(rounds: int) -> None:
    """Read an epoch, three bags a batch, against numpy.memmap; and what overlapping gains."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bags = [write_bag(folder / f"s{i:02d}", n, i % 2) for i, n in enumerate(lengths(60, seed=2))]
        plain = folder / "all.f16"
        with plain.open("wb") as handle:
            for bag in bags:
                for block in bag.features.blocks():
                    handle.write(np.ascontiguousarray(block).data)
        size = plain.stat().st_size
        batches = [list(range(i, i + 3)) for i in range(0, 60, 3)]
        tasks = memmap_tasks(plain, [sum(len(bags[i]) for i in batch) for batch in batches])
        seconds = medians(tasks | loader_tasks(bags, batches), rounds)
    rows = [
        [k, f"{1000 * v:.0f}", f"{size / v / 1e9:.2f}", f"{seconds[MEMMAP] / v:.2f}"]
        for k, v in seconds.items()
    ]
    print(f"\n60 bags, {size / 1e9:.2f} GB of float16, in the page cache.")
    print_table(["an epoch of", "ms", "GB of features/s", "times the speed of memmap"], rows)


def memmap_tasks(plain: Path, batch_rows: Sequence[int]) -> dict[str, Callable[[], object]]:
    """Copy an epoch from one plain file. batch_rows: instances of each batch, in the order of the file."""
    memory16 = np.empty((max(batch_rows), DIM), np.float16)
    memory32 = torch.empty(max(batch_rows), DIM)

    def batches() -> list[np.ndarray]:
        mapped = np.memmap(plain, "<f2", "c").reshape(-1, DIM)
        ends = np.cumsum(batch_rows)
        return [mapped[start:stop] for start, stop in zip([0, *ends[:-1]], ends, strict=True)]

    def copy() -> None:
        for part in batches():
            memory16[: len(part)] = part

    def widen() -> None:
        for part in batches():
            memory32[: len(part)].copy_(torch.from_numpy(part))

    return {MEMMAP: copy, "numpy.memmap, widened to float32": widen}


def loader_tasks(
    bags: Sequence[StoredBag], batches: Sequence[Sequence[int]]
) -> dict[str, Callable[[], object]]:
    """Read an epoch with our loader, alone and beside the steps of a training."""
    standardised = [Standardizer(torch.zeros(DIM), torch.ones(DIM))(bag) for bag in bags]
    model, buffers = build_aggregator("abmil_gated", DIM, 1, 0, {"hidden": ()}), (Buffer(), Buffer())
    rows = sum(map(len, bags)) // len(batches)
    held = PackedBags(torch.randn(rows, DIM), torch.tensor([0, rows]), torch.tensor([1]), ("held",))

    def loader(source: Sequence[StoredBag]) -> Callable[[], None]:
        return lambda: [None for _ in packed_batches(source, batches, buffers)] and None

    def epoch() -> None:
        for batch in packed_batches(standardised, batches, buffers):
            step(model, batch)

    def steps_alone() -> None:
        for _ in batches:
            step(model, held)

    return {
        "our loader (float32, packed)": loader(bags),
        "our loader, standardised": loader(standardised),
        "the steps of gated ABMIL alone, on a batch of mean size in memory": steps_alone,
        "a training epoch of gated ABMIL, loading overlapped": epoch,
    }
