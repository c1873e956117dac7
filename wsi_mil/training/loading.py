"""From bags on disk to packed batches. A thread reads the next batch into one buffer while the other one is
used."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from wsi_mil.bags.dataset import BagSource
from wsi_mil.contracts.bags import Bag, PackedBags, pack_instance_labels

T = TypeVar("T")


class Buffer:
    """Memory that is allocated once and reused: allocating new pages costs more than copying into them."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def view(self, rows: int, dim: int) -> Tensor:
        if self._memory.numel() < rows * dim:
            self._memory = torch.empty(rows * dim)
        return self._memory[: rows * dim].view(rows, dim)


Buffers = tuple[Buffer, Buffer]


def overlapped(jobs: Iterable[Callable[[Buffer], T]], buffers: Buffers | None = None) -> Iterator[T]:
    """Yield the results of `jobs` in order; while one is used, a thread runs the next job.

    A result may be a view of its buffer: it is valid until the next one is requested.
    """
    buffers, pending = buffers or (Buffer(), Buffer()), None
    with ThreadPoolExecutor(1, thread_name_prefix="wsi_mil-loading") as pool:
        for number, job in enumerate(jobs):
            future: Future[T] = pool.submit(job, buffers[number % 2])
            if pending is not None:
                yield pending.result()
            pending = future
        if pending is not None:
            yield pending.result()


def packed_batches(
    bags: Sequence[BagSource], batches: Iterable[Sequence[int]], buffers: Buffers | None = None
) -> Iterator[PackedBags]:
    """Yield the bags of each batch of indices, packed. `buffers`: to be kept from epoch to epoch."""
    if all(isinstance(bag, Bag) for bag in bags):
        yield from (PackedBags.pack([bags[i] for i in batch]) for batch in batches)  # type: ignore[misc]
    else:
        yield from overlapped((partial(_read, [bags[i] for i in batch]) for batch in batches), buffers)


def _read(bags: Sequence[BagSource], buffer: Buffer) -> PackedBags:
    offsets = torch.tensor([0] + [len(bag) for bag in bags]).cumsum(0)
    features = buffer.view(int(offsets[-1]), bags[0].dim)
    for bag, start, stop in zip(bags, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        bag.read_into(features[start:stop])
    marks = pack_instance_labels([(len(bag), bag.instance_labels) for bag in bags])
    labels = torch.tensor([bag.label for bag in bags])
    return PackedBags(features, offsets, labels, tuple(bag.slide_id for bag in bags), marks)


def chunks_of(bag: BagSource, rows: int, buffers: Buffers | None = None) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, instances (n, D)) of one bag, at most `rows` at a time."""
    starts = range(0, len(bag), rows)
    if isinstance(bag, Bag):
        yield from ((start, bag.features[start : start + rows]) for start in starts)
        return

    def read(start: int, buffer: Buffer) -> tuple[int, Tensor]:
        part = buffer.view(min(rows, len(bag) - start), bag.dim)
        bag.read_into(part, start)
        return start, part

    yield from overlapped((partial(read, start) for start in starts), buffers)
