"""Exact training and scoring of max-pooling methods in two passes.

The first pass goes over all instances in chunks, without a graph, and finds which ones hold a maximum. The
second pass runs the method on these few. Bag logits and gradients are the same, since no other instance has a
gradient. A term of the loss that does depend on every instance (FocusMIL's KL) is accumulated chunk by chunk
in the first pass. Memory depends on the chunk, not on the bag.

In a warm-up (aggregators/instance_maximum.py) every instance has a gradient. There the first pass keeps the
logits of all instances, which are few numbers; the loss gives the gradient of each; and the second pass goes
over the chunks again, with the same noise, and carries these gradients on to the parameters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from wsi_mil.aggregators.instance_maximum import pooling_in_use
from wsi_mil.aggregators.max_pooling import NOISE_ROWS, MaxPooling
from wsi_mil.bags.dataset import BagSource
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.tasks import TaskLoss
from wsi_mil.training.loading import Buffer, Buffers, chunks_of


@dataclass
class Maxima:
    """The running maxima of one bag: values and rows (K,), and those instances with their noise (K, ...).

    kept: the values of all instances so far, chunk by chunk; only in a warm-up.
    """

    values: Tensor
    rows: Tensor
    features: Tensor
    noise: Tensor | None
    kept: list[Tensor] = field(default_factory=list)

    @property
    def logits(self) -> Tensor:
        """The values (N, K) of all instances."""
        return torch.cat(self.kept)

    def needed(self) -> tuple[Tensor, Tensor | None]:
        """Return the different instances, in the order of the bag, and their noise."""
        rows, first = torch.unique(self.rows.cpu(), return_inverse=True)
        where = torch.full((len(rows),), -1).scatter(0, first, torch.arange(len(first)))
        where = where.to(self.features.device)
        return self.features[where], None if self.noise is None else self.noise[where]


def backward_in_two_passes(
    model: MaxPooling,
    bags: Sequence[BagSource],
    task_loss: TaskLoss,
    *,
    chunk_rows: int,
    device: torch.device | str = "cpu",
    buffers: Buffers | None = None,
) -> dict[str, Tensor]:
    """Add the gradients of the loss over `bags` to the parameters; return its named terms, detached.

    Equal to one pass over the packed bags up to rounding, with the same random numbers.
    """
    pooling = pooling_in_use(model)
    instances = sum(len(bag) for bag in bags)
    everywhere: dict[str, Tensor] = {}
    buffers = buffers or (Buffer(), Buffer())
    generator = None if model.generator is None else model.generator.get_state()
    found = [_scan(model, bag, chunk_rows, device, everywhere, instances, buffers) for bag in bags]
    reduced, noise = _reduce(found, bags)
    reduced = reduced.to(device)
    output = model(reduced, noise=noise)
    logits = torch.cat([maxima.logits for maxima in found]).requires_grad_() if pooling else None
    if pooling and logits is not None:
        output = replace(output, bag_logits=pooling(logits, [len(bag) for bag in bags]))
    terms = model.loss(output, reduced.labels, task_loss)
    own = [term for name, term in terms.items() if name not in everywhere]
    torch.stack(own).sum().backward()
    if logits is not None and logits.grad is not None:
        if model.generator is not None and generator is not None:
            model.generator.set_state(generator)
        for bag, gradients in zip(bags, logits.grad.split([len(bag) for bag in bags]), strict=True):
            _carry_on(model, bag, gradients, chunk_rows, device, buffers)
    return {name: everywhere.get(name, term.detach()) for name, term in terms.items()}


def _carry_on(
    model: MaxPooling,
    bag: BagSource,
    gradients: Tensor,
    chunk_rows: int,
    device: torch.device | str,
    buffers: Buffers,
) -> None:
    """Add to the parameters' gradients what the gradients (N, C) of a bag's instance logits make of them."""
    for start, part, noise in _chunks(model, bag, chunk_rows, device, buffers):
        values, _ = model.scan(part, noise)
        values.backward(gradients[start : start + len(part)].to(values.dtype))


@torch.no_grad()
def score_in_chunks(
    model: MaxPooling,
    bag: BagSource,
    *,
    chunk_rows: int,
    device: torch.device | str = "cpu",
    buffers: Buffers | None = None,
) -> tuple[PackedBags, Tensor]:
    """Return the instances that hold a maximum as a packed bag, and the scores (N,) of all instances.

    The model has the same bag logits on the packed bag as on the whole one.

    For evaluation: the model must not be in training mode.
    """
    scores, buffers = [], buffers or (Buffer(), Buffer())
    for _, part in chunks_of(bag, chunk_rows, buffers):
        packed = PackedBags(
            part.to(device), torch.tensor([0, len(part)]), torch.tensor([bag.label]), (bag.slide_id,)
        )
        scores.append(model(packed).instance_scores.cpu())
    reduced, _ = _reduce([_scan(model, bag, chunk_rows, device, {}, len(bag), buffers)], [bag])
    return reduced, torch.cat(scores)


def _scan(
    model: MaxPooling,
    bag: BagSource,
    chunk_rows: int,
    device: torch.device | str,
    everywhere: dict[str, Tensor],
    instances: int,
    buffers: Buffers,
) -> Maxima:
    """First pass over one bag; terms over every instance are added to the gradients and to `everywhere`."""
    best: Maxima | None = None
    for start, part, noise in _chunks(model, bag, chunk_rows, device, buffers):
        with torch.set_grad_enabled(model.training and model.reaches_every_instance):
            values, terms = model.scan(part, noise)
        if values.requires_grad:
            share = len(part) / instances
            torch.stack([share * term for term in terms.values()]).sum().backward()
            for name, term in terms.items():
                everywhere[name] = everywhere.get(name, torch.zeros(())) + share * term.detach()
        best = _update(best, values.detach(), start, part, noise)
        if pooling_in_use(model) is not None:
            best.kept.append(values.detach().float())
    if best is None:
        raise ValueError("a bag holds at least one instance")
    return best


def _chunks(
    model: MaxPooling, bag: BagSource, chunk_rows: int, device: torch.device | str, buffers: Buffers
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield (first row, instances (n, D), their noise) of one bag."""
    # chunks are whole blocks of noise, so that the noise is that of a single pass
    rows = max(chunk_rows // NOISE_ROWS, 1) * NOISE_ROWS if model.noise_width else chunk_rows
    for start, chunk in chunks_of(bag, rows, buffers):
        part = chunk.to(device)
        yield start, part, model.draw_noise(len(part)) if model.noise_width else None


def _update(best: Maxima | None, values: Tensor, start: int, part: Tensor, noise: Tensor | None) -> Maxima:
    top, row = values.max(0)  # (K,): the first of equals
    local = None if noise is None else noise[row.cpu()]
    if best is None:
        return Maxima(top, row + start, part[row], local)
    newer = top > best.values
    best.values = torch.where(newer, top, best.values)
    best.rows = torch.where(newer, row + start, best.rows)
    best.features = torch.where(newer[:, None], part[row], best.features)
    if local is not None and best.noise is not None:
        best.noise = torch.where(newer.cpu()[:, None], local, best.noise)
    return best


def _reduce(found: Sequence[Maxima], bags: Sequence[BagSource]) -> tuple[PackedBags, Tensor | None]:
    parts = [maxima.needed() for maxima in found]
    noises = [noise for _, noise in parts if noise is not None]
    offsets = torch.tensor([0] + [len(features) for features, _ in parts]).cumsum(0)
    packed = PackedBags(
        torch.cat([features for features, _ in parts]),
        offsets,
        torch.tensor([bag.label for bag in bags]),
        tuple(bag.slide_id for bag in bags),
    )
    return packed, torch.cat(noises) if noises else None
