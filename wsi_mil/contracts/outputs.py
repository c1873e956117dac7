"""What every aggregator returns."""

from dataclasses import dataclass, field

from torch import Tensor

from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.record import Record, require
from wsi_mil.contracts.score_kinds import SCORE_KINDS, require_second_kind


@dataclass(frozen=True, eq=False)
class AggregatorOutput(Record):
    """The outputs of a model for B bags of ΣN instances.

    bags: what they were computed from; a loss over instances needs the offsets.
    bag_logits (B, C): C is 1 for a sigmoid head, else the number of classes.
    instance_scores (ΣN,): higher is more suspicious.
    score_kind: the name of what they are, see `wsi_mil.contracts.score_kinds`; attention sums to 1 in each
    bag.
    extras: further tensors by name, for the losses of one method.
    second_scores (ΣN,), second_kind: a second score of the same instances, and its kind, of methods that have
    attention and an instance classifier; None and "" otherwise.
    """

    bags: PackedBags
    bag_logits: Tensor
    instance_scores: Tensor
    score_kind: str
    extras: dict[str, Tensor] = field(default_factory=dict)
    second_scores: Tensor | None = None
    second_kind: str = ""

    def __post_init__(self) -> None:
        where, bags, logits = "aggregator output", len(self.bags), self.bag_logits
        valid = logits.ndim == 2 and len(logits) == bags and logits.shape[1] >= 1
        require(valid, where, "bag_logits", f"({bags}, C)", logits)
        instances = (len(self.bags.features),)
        valid = self.instance_scores.shape == instances
        require(valid, where, "instance_scores", f"{instances}, one per instance", self.instance_scores)
        valid, kinds = self.score_kind in SCORE_KINDS, ", ".join(SCORE_KINDS)
        require(valid, where, "score_kind", f"one of {kinds}", self.score_kind)
        require_second_kind(where, self.score_kind, self.second_kind, self.second_scores)
        if self.second_scores is not None:
            valid = self.second_scores.shape == instances
            require(valid, where, "second_scores", f"{instances}, one per instance", self.second_scores)
        valid = all(isinstance(value, Tensor) for value in self.extras.values())
        require(valid, where, "extras", "tensors", {name: type(v) for name, v in self.extras.items()})
