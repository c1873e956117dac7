"""Operations over the segments of a packed matrix: the only place that knows how bags lie in it.

Two ways, chosen by what was measured on a CPU (docs/benchmarks.md): bags of slides are split off one by one,
several times faster than scattering into a sum per bag; many tiny bags are scattered, since there the loop
over bags costs more than the work. Either way no bag depends on its neighbours. `lengths` are those of
PackedBags.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

Lengths = Sequence[int]
TINY = 64
"""Mean instances of a bag below which several bags are scattered."""


def starts_of(lengths: Lengths) -> list[int]:
    """Return the first row of each segment.

    >>> starts_of([2, 4, 1])
    [0, 2, 6]
    """
    return [0, *accumulate(lengths)][:-1]


def split(values: Tensor, lengths: Lengths) -> tuple[Tensor, ...]:
    """Return one view per bag."""
    return tuple(values.split(list(lengths)))


def are_tiny(lengths: Lengths) -> bool:
    """Whether there are several bags and they are so small that scattering is faster."""
    return len(lengths) > 2 and sum(lengths) < TINY * len(lengths)


def index_of(lengths: Lengths, like: Tensor) -> Tensor:
    """Return (ΣN,) the number of the bag of each row, on the device of `like`."""
    counts = torch.tensor(lengths, device=like.device)
    return torch.repeat_interleave(torch.arange(len(lengths), device=like.device), counts)


def segment_argmax(values: Tensor, lengths: Lengths) -> Tensor:
    """Return (B, ...) the row, in the packed matrix, of each bag's largest value; the first of equals.

    values (ΣN,) or (ΣN, C).
    """
    values = values.detach()
    if not are_tiny(lengths):
        parts = zip(split(values, lengths), starts_of(lengths), strict=True)
        return torch.stack([part.argmax(0) + start for part, start in parts])
    index = index_of(lengths, values)
    rows = torch.arange(len(values), device=values.device)
    last = torch.tensor(list(accumulate(lengths)), device=values.device) - 1
    if values.ndim > 1:
        rows, last = rows[:, None].expand_as(values), last[:, None]
    is_top = values == _maxima(values, index, len(lengths))[index]
    candidates = torch.where(is_top, rows, len(values))
    first = torch.full((len(lengths), *values.shape[1:]), len(values), device=values.device)
    first = first.scatter_reduce(0, _wide(index, values), candidates, "amin")
    return torch.minimum(first, last)  # a bag of NaN has no largest: the loss will tell


def segment_max(values: Tensor, lengths: Lengths) -> Tensor:
    """Return (B, ...) each bag's largest value; the gradient goes to the first of equals. values (ΣN,) or
    (ΣN, C)."""
    return values.gather(0, segment_argmax(values, lengths))


def segment_top(values: Tensor, k: int, lengths: Lengths, largest: bool = True) -> list[Tensor]:
    """Return for each bag the rows, in the packed matrix, of its min(k, n) largest (smallest) values
    (ΣN,), best first."""
    parts = zip(split(values.detach(), lengths), starts_of(lengths), strict=True)
    return [part.topk(min(k, len(part)), largest=largest).indices + start for part, start in parts]


def segment_softmax(values: Tensor, lengths: Lengths) -> Tensor:
    """Return the softmax of values (ΣN, ...) within each bag, same shape."""
    if not are_tiny(lengths):
        return torch.cat([part.softmax(0) for part in split(values, lengths)])
    index = index_of(lengths, values)
    exps = (values - _maxima(values.detach(), index, len(lengths))[index]).exp()
    return exps / segment_sum(exps, lengths)[index]


def segment_sum(values: Tensor, lengths: Lengths) -> Tensor:
    """Return (B, ...) the sum of values (ΣN, ...) over each bag."""
    if not are_tiny(lengths):
        return torch.stack([part.sum(0) for part in split(values, lengths)])
    zeros = values.new_zeros((len(lengths), *values.shape[1:]))
    return zeros.index_add(0, index_of(lengths, values), values)


def segment_mean(values: Tensor, lengths: Lengths) -> Tensor:
    """Return (B, ...) the mean of values (ΣN, ...) over each bag."""
    counts = torch.tensor(lengths, device=values.device, dtype=values.dtype)
    return segment_sum(values, lengths) / counts.view(-1, *[1] * (values.ndim - 1))


def segment_logmeanexp(values: Tensor, lengths: Lengths, sharpness: float) -> Tensor:
    """Return (B, ...) log(mean(exp(r x))) / r over each bag: the mean for r -> 0, the maximum for large r."""
    index = index_of(lengths, values)
    top = sharpness * segment_max(values, lengths).detach()
    return (segment_mean((sharpness * values - top[index]).exp(), lengths).log() + top) / sharpness


def segment_top_mean(values: Tensor, counts: Sequence[int], lengths: Lengths) -> Tensor:
    """Return (B, C) the mean of the counts[b] largest values (ΣN, C) of each bag, column by column."""
    parts = zip(split(values, lengths), counts, strict=True)
    return torch.stack([part.topk(min(k, len(part)), dim=0).values.mean(0) for part, k in parts])


def segment_weighted_sum(weights: Tensor, values: Tensor, lengths: Lengths) -> Tensor:
    """Return the sum of weights times values (ΣN, D) over each bag.

    weights (ΣN,) -> (B, D); weights (ΣN, K) -> (B, K, D).
    """
    if are_tiny(lengths):
        weighted = weights[:, None] * values if weights.ndim == 1 else weights[:, :, None] * values[:, None]
        return segment_sum(weighted, lengths)
    pairs = zip(split(weights, lengths), split(values, lengths), strict=True)
    if weights.ndim == 1:
        return torch.stack([weight @ value for weight, value in pairs])  # (n,) @ (n, D) -> (D,)
    return torch.stack([weight.T @ value for weight, value in pairs])  # (K, n) @ (n, D) -> (K, D)


def _maxima(values: Tensor, index: Tensor, bags: int) -> Tensor:
    low = values.new_full((bags, *values.shape[1:]), -torch.inf)
    return low.scatter_reduce(0, _wide(index, values), values, "amax")


def _wide(index: Tensor, values: Tensor) -> Tensor:
    return index.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
