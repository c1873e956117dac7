"""Operations over the segments of a packed matrix: the only place that loops over bags.

Each works by splitting at the lengths: on a CPU this is several times faster than scatter operations (docs/benchmarks.md), and
it makes the result of a bag independent of its neighbours to the last bit. `lengths` are those of PackedBags.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

Lengths = Sequence[int]


def starts_of(lengths: Lengths) -> list[int]:
    """Return the first row of each segment.

    >>> starts_of([2, 4, 1])
    [0, 2, 6]
    """
    return [0, *accumulate(lengths)][:-1]


def split(values: Tensor, lengths: Lengths) -> tuple[Tensor, ...]:
    """Return one view per bag."""
    return tuple(values.split(list(lengths)))


def segment_argmax(values: Tensor, lengths: Lengths) -> Tensor:
    """Return (B, ...) the row, in the packed matrix, of each bag's largest value; the first of equals.

    values (ΣN,) or (ΣN, C).
    """
    parts = zip(split(values.detach(), lengths), starts_of(lengths), strict=True)
    return torch.stack([part.argmax(0) + start for part, start in parts])


def segment_max(values: Tensor, lengths: Lengths) -> Tensor:
    """Return (B, ...) each bag's largest value; the gradient goes to the first of equals. values (ΣN,) or (ΣN, C)."""
    return values.gather(0, segment_argmax(values, lengths))


def segment_top(values: Tensor, k: int, lengths: Lengths, largest: bool = True) -> list[Tensor]:
    """Return for each bag the rows, in the packed matrix, of its min(k, n) largest (smallest) values (ΣN,), best first."""
    parts = zip(split(values.detach(), lengths), starts_of(lengths), strict=True)
    return [part.topk(min(k, len(part)), largest=largest).indices + start for part, start in parts]


def segment_softmax(values: Tensor, lengths: Lengths) -> Tensor:
    """Return the softmax of values (ΣN, ...) within each bag, same shape."""
    return torch.cat([part.softmax(0) for part in split(values, lengths)])


def segment_sum(values: Tensor, lengths: Lengths) -> Tensor:
    """Return (B, ...) the sum of values (ΣN, ...) over each bag."""
    return torch.stack([part.sum(0) for part in split(values, lengths)])


def segment_mean(values: Tensor, lengths: Lengths) -> Tensor:
    """Return (B, ...) the mean of values (ΣN, ...) over each bag."""
    return torch.stack([part.mean(0) for part in split(values, lengths)])


def segment_logmeanexp(values: Tensor, lengths: Lengths, sharpness: float) -> Tensor:
    """Return (B, ...) log(mean(exp(r x))) / r over each bag: the mean for r -> 0, the maximum for large r."""
    parts = [(sharpness * part).logsumexp(0) - torch.tensor(float(len(part))).log() for part in split(values, lengths)]
    return torch.stack(parts) / sharpness


def segment_weighted_sum(weights: Tensor, values: Tensor, lengths: Lengths) -> Tensor:
    """Return the sum of weights times values (ΣN, D), as one product per bag.

    weights (ΣN,) -> (B, D); weights (ΣN, K) -> (B, K, D).
    """
    pairs = zip(split(weights, lengths), split(values, lengths), strict=True)
    return torch.stack([weight.T @ value for weight, value in pairs] if weights.ndim > 1 else
                       [weight @ value for weight, value in pairs])  # fmt: skip
