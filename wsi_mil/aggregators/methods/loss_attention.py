"""Loss-attention: the classifier's own logits of an instance give its weight. Shi, Xing, Xie, Zhang, Cui and
Xing, AAAI 2020.

l_i = W h_i + b
a_i = sum_c exp(l_ic) / sum_t sum_c exp(l_tc)
bag logits = W sum_i a_i h_i + b, which equals sum_i a_i l_i, since the weights sum to 1
L1 = CE(bag, y);  L2 = lam sum_i a_i CE(l_i, y);  L3 = omega(m) sum_i (a_i - ema_i)^2
omega(m) = omega exp(-5 (1 - m / ramp_epochs)^2) in epoch m
ema_i: the moving average of the weights of each training bag, updated once an epoch
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.aggregators.attention import AttentionAggregator, relu_layers
from wsi_mil.aggregators.base import CLASS_TASKS
from wsi_mil.bags.segments import (
    Lengths,
    segment_mean,
    segment_softmax,
    segment_sum,
    segment_weighted_sum,
    split,
)
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TaskLoss


class LossAttention(AttentionAggregator):
    """Every instance gets the bag's label in L2, in negative bags, too.

    `l2`: 'sum' as in the paper, 'mean' as in the authors' code (divided by the bag size once more).
    `omega`: 0 leaves L3 out. `dropout`: between the last fully connected layer and its ReLU, as published.
    The second instance score is the classifier on the instance alone: the log odds of a finding by softmax
    l_i, which L2 trains. The attention a_i is large where the classifier is confident of any class.
    `n_outputs`: 2 for two classes, as published (`train.head: auto`); with 1 (`sigmoid`) the logit of the
    other class is 0 (a_i ~ 1 + exp(l_i)).

    >>> LossAttention(in_features=8, n_outputs=2, hidden=(4,)).classifier
    Linear(in_features=4, out_features=2, bias=True)
    """

    small: ClassVar[dict[str, object]] = {"hidden": (16,)}

    tasks = CLASS_TASKS
    binary_outputs = (2, 1)
    second_kind = "logit"

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 2,
        hidden: Sequence[int] = (256,),
        lam: float = 1.0,
        l2: Literal["sum", "mean"] = "sum",
        omega: float = 0.0,
        ramp_epochs: int = 80,
        ema: float = 0.6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, n_outputs)
        if l2 not in ("sum", "mean"):
            raise ConfigError(f"loss_attention: l2 must be 'sum' or 'mean', got {l2!r}")
        self.lam, self.l2, self.omega, self.ramp_epochs = lam, l2, omega, ramp_epochs
        self.ema, self.dropout = ema, dropout
        self.embed, width = relu_layers(in_features, hidden)
        self.classifier = nn.Linear(width, n_outputs)
        self.epoch = 0
        self._moving: dict[str, tuple[Tensor, int]] = {}
        self._seen: dict[str, Tensor] = {}

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        h = bags.features
        for layer in self.embed[:-1]:
            h = layer(h)
        h = self.drop(h, self.dropout)
        h = torch.relu(h) if len(self.embed) else h  # (ΣN, D) -> (ΣN, H)
        logits = self.classifier(h)  # -> (ΣN, C)
        raw = logits.logsumexp(1, keepdim=True) if self.n_outputs > 1 else F.softplus(logits)
        weights = segment_softmax(raw, bags.lengths)  # -> (ΣN, 1)
        if self.training and self.omega > 0:
            seen = weights[:, 0].detach().cpu()
            self._seen |= dict(zip(bags.slide_ids, split(seen, bags.lengths), strict=True))
        extras = {"h": h, "weights": weights, "attention_raw": raw, "instance_logits": logits}
        return AggregatorOutput(
            bags,
            self.pool(h, weights, bags.lengths),
            weights[:, 0],
            "attention",
            extras,
            second_scores=self.finding_logits(logits),
            second_kind=self.second_kind,
        )

    def pool(self, h: Tensor, weights: Tensor, lengths: Lengths) -> Tensor:
        return self.classifier(segment_weighted_sum(weights[:, 0], h, lengths))  # type: ignore[no-any-return]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        lengths, weights = output.bags.lengths, output.extras["weights"][:, 0]
        repeated = targets.repeat_interleave(torch.tensor(lengths, device=targets.device))
        logits = output.extras["instance_logits"]
        each = weights * task_loss.each(logits, repeated)
        over = segment_sum if self.l2 == "sum" else segment_mean
        terms = {
            "bag": task_loss(output.bag_logits, targets),
            "instance": self.lam * over(each, lengths).mean(),
        }
        if self.training and self.omega > 0:
            terms["consistency"] = self.ramp() * self.drift(output.bags, weights)
        return terms

    def ramp(self) -> float:
        """Return omega(m) of this epoch."""
        return self.omega * math.exp(-5 * (1 - min(self.epoch / self.ramp_epochs, 1.0)) ** 2)

    def drift(self, bags: PackedBags, weights: Tensor) -> Tensor:
        """Return the mean over bags of sum_i (a_i - ema_i)²; a bag that has no past adds 0."""
        drifts = []
        for slide_id, part in zip(bags.slide_ids, split(weights, bags.lengths), strict=True):
            moving, epochs = self._moving.get(slide_id, (None, 0))
            if moving is None:
                drifts.append(part.sum() * 0)
            else:
                target = moving / (1 - self.ema**epochs)  # bias correction, as in the authors' image code
                drifts.append((part - target.to(part)).square().sum())
        return torch.stack(drifts).mean()

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for slide_id, seen in self._seen.items():
            moving, epochs = self._moving.get(slide_id, (torch.zeros_like(seen), 0))
            self._moving[slide_id] = (self.ema * moving + (1 - self.ema) * seen, epochs + 1)
        self._seen = {}

    def training_state(self) -> dict[str, Tensor]:
        moving = {f"moving/{name}": value for name, (value, _) in self._moving.items()}
        epochs = {f"epochs/{name}": torch.tensor(count) for name, (_, count) in self._moving.items()}
        return moving | epochs | {f"seen/{name}": value.clone() for name, value in self._seen.items()}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        def of(kind: str) -> dict[str, Tensor]:
            return {key.removeprefix(kind): value for key, value in state.items() if key.startswith(kind)}

        counts = of("epochs/")
        self._moving = {name: (value, int(counts[name])) for name, value in of("moving/").items()}
        self._seen = of("seen/")


AGGREGATOR = LossAttention
