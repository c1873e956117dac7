"""What every aggregator returns."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from wsi_mil.errors import DataError

ScoreKind = Literal["attention", "logit", "probability"]


@dataclass(frozen=True)
class AggregatorOutput:
    """bag_logits (B, C): C = 1 for a sigmoid head, else one per class. instance_scores (ΣN,): higher is more
    suspicious; `score_kind` says whether they are attention (sums to 1 in a bag), logits or probabilities."""

    bag_logits: Tensor
    instance_scores: Tensor
    score_kind: ScoreKind
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.bag_logits.ndim != 2 or self.instance_scores.ndim != 1:
            raise DataError(
                f"bag_logits must be (B, C) and instance_scores (N,), got {tuple(self.bag_logits.shape)} "
                f"and {tuple(self.instance_scores.shape)}"
            )
