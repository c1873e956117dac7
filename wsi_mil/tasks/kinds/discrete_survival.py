"""Survival in intervals of time: one hazard for each interval. Zadeh and Schmid, IEEE TPAMI 2021.

h_k = sigmoid(output k): the probability of the event in interval k for those who reached it
S_k = product of (1 - h) up to k
event in interval y:     L = -log S_{y-1} - log h_y
censored in interval y:  L = -log S_y
risk = -sum of S_k. The loss of a slide depends on no other slide, so a step may hold a single slide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from wsi_mil.contracts.labels import Target
from wsi_mil.errors import ConfigError
from wsi_mil.tasks.base import Cells, ClassLoss, Head
from wsi_mil.tasks.kinds.regression import refuse_settings
from wsi_mil.tasks.kinds.survival import Survival, time_event

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DiscreteSurvival(Survival):
    """`bins`: number of intervals. `limits`: the times between them, chosen so that each interval holds the
    same number of events of the training slides.

    >>> DiscreteSurvival(bins=2).fitted([(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]).limits
    (2.0,)
    """

    bins: int = 4
    limits: tuple[float, ...] = ()

    compares_slides = False

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ConfigError(f"task.params.bins must be at least 2, got {self.bins}")

    @classmethod
    def for_table(cls, cells: Sequence[Cells], class_names: tuple[str, ...] | None, **params: object) -> Self:
        bins = params.pop("bins", 4)
        refuse_settings("discrete_survival", class_names, {})
        if params or not isinstance(bins, int):
            raise ConfigError(f"task.params: expected bins, a whole number, got {sorted(params) or bins!r}")
        return cls(bins=bins)

    def fitted(self, targets: Sequence[Target]) -> Self:
        import numpy as np

        times = [time for time, event in map(time_event, targets) if event]
        inner = np.linspace(0, 1, self.bins + 1)[1:-1]
        return replace(self, limits=tuple(float(t) for t in np.quantile(times, inner)))

    def n_outputs(self, own: int, head: Head) -> int:
        return self.bins

    def losses(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        import torch
        from torch.nn.functional import logsigmoid, pad

        limits = torch.tensor(self.limits, dtype=targets.dtype, device=targets.device)
        interval = torch.bucketize(targets[:, 0].contiguous(), limits, right=True)[:, None]  # (B, 1)
        survived = pad(logsigmoid(-logits).cumsum(1), (1, 0))  # (B, bins + 1): log S before each interval
        event = survived.gather(1, interval) + logsigmoid(logits).gather(1, interval)
        censored = survived.gather(1, interval + 1)
        return -torch.where(targets[:, 1:] > 0, event, censored)[:, 0]

    def predict(self, logits: "Tensor") -> "Tensor":
        return -(1 - logits.sigmoid()).cumprod(1).sum(1, keepdim=True)


TASK = DiscreteSurvival
