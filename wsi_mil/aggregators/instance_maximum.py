"""The maximum over the instance logits of a bag, and what can replace it at the start of training.

The noise or the random start of an instance classifier decides which instance of a bag holds the maximum. If
it is a normal one in tumour bags, only normal instances get gradient, and tumour may never be selected. In a
warm-up the maximum is replaced by a function through which every instance gets gradient.

    smooth maximum  S_b = log(mean_i exp(r s_i)) / r,  r = 1: the instance i has weight softmax_i(r s_i)
    top mean        S_b = mean of the k largest s_i

Log-mean-exp: Ramon and De Raedt, Multi instance neural networks, ICML workshop 2000. Evaluation always takes
the maximum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.bags.segments import Lengths, segment_logmeanexp, segment_top_mean

BagPooling = Callable[[Tensor, Lengths], Tensor]
"""(instance logits (ΣN, C), lengths of the bags) -> bag logits (B, C)."""


@dataclass(frozen=True)
class SmoothMaximum:
    """log(mean(exp(sharpness x logit))) / sharpness: near 0 the mean, the maximum for a large sharpness.

    >>> SmoothMaximum(1.0)(torch.tensor([[0.0], [2.0]]), [2])
    tensor([[1.4338]])
    """

    sharpness: float

    def __call__(self, logits: Tensor, lengths: Lengths) -> Tensor:
        return segment_logmeanexp(logits, lengths, self.sharpness)


@dataclass(frozen=True)
class TopMean:
    """The mean of the k largest logits of a bag of n instances, with k = n^exponent, rounded: all of them for
    an exponent of 1, the largest one for 0.

    >>> TopMean(0.5)(torch.tensor([[0.0], [2.0], [4.0], [1.0]]), [4])
    tensor([[3.]])
    """

    exponent: float

    def __call__(self, logits: Tensor, lengths: Lengths) -> Tensor:
        return segment_top_mean(logits, [max(1, round(n**self.exponent)) for n in lengths], lengths)


class InstanceMaximum(Aggregator):
    """The base of methods whose bag logit is the largest logit of its instances.

    `pooling`: what replaces the maximum in training mode; None: nothing does. Training sets it.
    """

    pooling: BagPooling | None = None

    def pooled(self, logits: Tensor, lengths: Lengths, top: Tensor) -> Tensor:
        """Return the bag logits (B, C) of instance logits (ΣN, C). top (B, C): the rows of the maxima."""
        pooling = pooling_in_use(self)
        return logits.gather(0, top) if pooling is None else pooling(logits, lengths)


def pooling_in_use(model: torch.nn.Module) -> BagPooling | None:
    """Return what replaces the maximum now: in training mode, where something does."""
    return model.pooling if isinstance(model, InstanceMaximum) and model.training else None


def set_pooling(model: torch.nn.Module, pooling: BagPooling | None) -> None:
    """Set what replaces the maximum in a method, or in the one that it wraps."""
    for part in model.modules():
        if isinstance(part, InstanceMaximum):
            part.pooling = pooling


def takes_maximum(model: torch.nn.Module) -> bool:
    """Return whether a method takes, or wraps one that takes, the maximum over instance logits."""
    return any(isinstance(part, InstanceMaximum) for part in model.modules())
