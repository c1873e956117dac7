"""What the benchmarks of bags share: bags of uneven sizes, one training step, timing in turns, tables."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import nn

from wsi_mil.bags import StoredBag
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.features.mapped import MappedFeatures
from wsi_mil.features.writing import FeatureWriter
from wsi_mil.io.tables import markdown_table
from wsi_mil.testing.aggregators import detection_loss

DIM = 1024


def lengths(count: int, seed: int) -> list[int]:
    """Bag sizes, log-uniform from 500 to 10,000."""
    return (
        np.exp(np.random.default_rng(seed).uniform(np.log(500), np.log(10_000), count)).astype(int).tolist()
    )


def make_bags(sizes: Sequence[int]) -> list[Bag]:
    generator = torch.Generator().manual_seed(0)
    return [Bag(f"s{i}", torch.randn(n, DIM, generator=generator), i % 2) for i, n in enumerate(sizes)]


def medians(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return seconds per task, the median of `rounds`; tasks take turns, so noise affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            if turn:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("\n" + markdown_table(head, rows), flush=True)


def step(model: nn.Module, bags: PackedBags, low: bool = False) -> None:
    """Forward and backward of one packed batch."""
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        terms = model.loss(model(bags), bags.labels, detection_loss(model))  # type: ignore[operator]
    torch.stack([term.float() for term in terms.values()]).sum().backward()


def each_step(model: nn.Module, bags: Sequence[PackedBags]) -> None:
    """Take one step for each of `bags`."""
    for bag in bags:
        step(model, bag)


def write_bag(folder: Path, rows: int, label: int) -> StoredBag:
    """Write random features as a slide store does; return the bag on disk."""
    generator = torch.Generator().manual_seed(rows)
    writer = FeatureWriter(zarr.create_group(store=str(folder)), rows, DIM)
    for start in range(0, rows, 16384):
        count = min(16384, rows - start)
        writer.append(torch.randn(count, DIM, generator=generator).numpy(), np.ones(count, bool))
    writer.finish()
    return StoredBag(folder.name, MappedFeatures(folder / "features", np.ones(rows, bool)), label)
