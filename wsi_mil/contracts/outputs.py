"""What every aggregator returns."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from wsi_mil.contracts.bags import PackedBags
from wsi_mil.errors import DataError

ScoreKind = Literal["attention", "logit", "probability", "value"]
"""What instance scores are. "value": an output of a task other than detection, which has no common scale."""


@dataclass(frozen=True)
class AggregatorOutput:
    """bag_logits (B, C): C = 1 for a sigmoid head, else one per class. instance_scores (ΣN,): higher is more
    suspicious; `score_kind` says whether they are attention (sums to 1 in a bag), logits or probabilities.
    `bags`: what it was computed from; a loss over instances needs the offsets."""

    bags: PackedBags
    bag_logits: Tensor
    instance_scores: Tensor
    score_kind: ScoreKind
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bags, instances = len(self.bags), len(self.bags.features)
        if (
            self.bag_logits.ndim != 2
            or len(self.bag_logits) != bags
            or self.instance_scores.shape != (instances,)
        ):
            raise DataError(
                f"expected bag_logits ({bags}, C) and instance_scores ({instances},), got "
                f"{tuple(self.bag_logits.shape)} and {tuple(self.instance_scores.shape)}"
            )
