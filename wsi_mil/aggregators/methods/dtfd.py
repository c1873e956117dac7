"""DTFD-MIL: pseudo-bags, and a second tier on features selected from them. Zhang et al., CVPR 2022.

The instances of a bag are divided at random into `groups` parts. Tier 1: gated attention and a classifier on
each part; the instance probability is the class activation softmax(W a_i h_i), which includes the attention
weight. Each part passes these features to tier 2:
  max      the `per_group` rows of h with the highest probability of being positive (MaxS)
  max_min  these and the `per_group` lowest (MaxMinS)
  afs      its attention-weighted feature
Tier 2: gated attention and a second classifier on the features of all parts; its logits are those of the bag.
L = CE(tier 2) + mean over parts of CE(tier 1 part, bag label)
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.aggregators.attention import AttentionNet
from wsi_mil.aggregators.base import CLASS_TASKS, Aggregator
from wsi_mil.bags.segments import split
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TaskLoss

Distill = Literal["max", "max_min", "afs"]


class DTFD(Aggregator):
    """In training the parts are drawn from `generator`. In evaluation they are drawn from `evaluation_seed`,
    so that a prediction is the same every time, unlike in the published code. It depends on the order of the
    tiles.

    Departures from the paper: one optimiser, that of `train`, for both tiers; published are two, Adam at 1e-4
    with weight decay 1e-4, both times 0.2 at epoch 100 of 200, gradients clipped at 5, and the best of the
    last fifth of the epochs. `groups` 4 is the code's; the paper has 5 for Camelyon16 and 8 for TCGA.

    The main instance score is the class activation, which the paper derives and selects by. The second is the
    attention: the weight of the instance in its part (tier 1) times the weight of the part's features in the
    bag (tier 2). With afs this is the weight of h_i in the bag's feature. It sums to 1 in a bag.

    `detach`: tier 2 does not train tier 1, as in the published optimisers. The published AFS step updates
    tier 1 before the backward pass of tier 2, which a current PyTorch refuses; here both tiers are updated
    together. A bag with fewer instances than `groups` has one part for each instance.

    >>> DTFD(in_features=8, n_outputs=2, hidden=6).classifier
    Linear(in_features=6, out_features=2, bias=True)
    """

    small: ClassVar[dict[str, object]] = {"hidden": 16, "attention": 8}

    permutes_with_instances = False
    binary_outputs = (2,)
    tasks = CLASS_TASKS
    second_kind = "attention"

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 2,
        hidden: int = 512,
        attention: int = 128,
        groups: int = 4,
        distill: Distill = "afs",
        per_group: int = 1,
        detach: bool = True,
        evaluation_seed: int = 0,
    ) -> None:
        super().__init__(in_features, n_outputs)
        if distill not in ("max", "max_min", "afs") or groups < 1 or per_group < 1:
            raise ConfigError(
                "dtfd: distill must be max, max_min or afs, groups and per_group at least 1; got "
                f"{distill!r}, {groups}, {per_group}"
            )
        self.groups, self.distill, self.per_group = groups, distill, per_group
        self.detach, self.evaluation_seed = detach, evaluation_seed
        self.embed = nn.Linear(in_features, hidden, bias=False)
        self.attention = AttentionNet(hidden, attention)
        self.classifier = nn.Linear(hidden, n_outputs)
        self.attention2 = AttentionNet(hidden, attention)
        self.classifier2 = nn.Linear(hidden, n_outputs)

    def forward(self, bags: PackedBags, orders: Sequence[Tensor] | None = None) -> AggregatorOutput:
        """Return the output. `orders`: a permutation of the rows of each bag, which is cut into consecutive
        parts;
        default: drawn at random.
        """
        orders = orders or [self.draw_order(n) for n in bags.lengths]
        h = torch.relu(self.embed(bags.features))  # (ΣN, D) -> (ΣN, H)
        raw = self.attention(h)[:, 0]  # -> (ΣN,)
        parts = zip(split(h, bags.lengths), split(raw, bags.lengths), orders, strict=True)
        found = [self.one_bag(*part) for part in parts]
        logits = torch.cat([one["logits"] for one in found])  # -> (B, C)
        sub_logits = torch.cat([one["sub_logits"] for one in found])  # -> (Σ parts, C)
        probability = torch.cat([one["probability"] for one in found])  # -> (ΣN, C)
        extras = {
            "sub_logits": sub_logits,
            "parts": torch.tensor([len(one["sub_logits"]) for one in found]),
            "probability": probability,
            "attention_raw": raw,
            "distilled": torch.cat([one["distilled"] for one in found]),
        }
        return AggregatorOutput(
            bags,
            logits,
            self.finding(probability),
            "probability",
            extras,
            second_scores=torch.cat([one["attention"] for one in found]),
            second_kind=self.second_kind,
        )

    def finding(self, probability: Tensor) -> Tensor:
        """Return (n,) how clearly each instance of class probabilities (n, C) shows a finding: the
        probability of any class but the normal one; without a normal class, that of its likeliest class."""
        first = self.negative_classes
        return probability[:, first:].sum(1) if first else probability.amax(1)

    def draw_order(self, count: int) -> Tensor:
        """Return a random permutation of `count` rows."""
        generator = self.generator if self.training else torch.Generator().manual_seed(self.evaluation_seed)
        return torch.randperm(count, generator=generator)

    def one_bag(self, h: Tensor, raw: Tensor, order: Tensor) -> dict[str, Tensor]:
        """Return logits (1, C), sub_logits (parts, C), probability (n, C), attention (n,) and the distilled
        rows of one bag."""
        sub_logits, distilled, probability, attention = [], [], [], []
        for rows in order.to(h.device).tensor_split(min(self.groups, len(h))):
            weights = raw[rows].softmax(0)
            feature = weights @ h[rows]  # (n,) @ (n, H) -> (H,)
            activation = F.linear(weights[:, None] * h[rows], self.classifier.weight).softmax(1)  # -> (n, C)
            sub_logits.append(self.classifier(feature))
            probability.append(activation)
            attention.append(weights)
            distilled.append(self.distil(h[rows], feature, activation))
        kept = torch.cat(distilled)
        kept = kept.detach() if self.detach else kept
        weights2 = self.attention2(kept)[:, 0].softmax(0)
        of_parts = [part.sum() for part in weights2.split([len(rows) for rows in distilled])]
        attention = [own * part for own, part in zip(attention, of_parts, strict=True)]
        place = order.to(h.device).argsort()
        logits = self.classifier2(weights2 @ kept)[None]
        return {
            "logits": logits,
            "sub_logits": torch.stack(sub_logits),
            "probability": torch.cat(probability)[place],
            "attention": torch.cat(attention)[place],
            "distilled": kept,
        }

    def distil(self, h: Tensor, feature: Tensor, activation: Tensor) -> Tensor:
        """Return the features that a part passes to tier 2."""
        if self.distill == "afs":
            return feature[None]
        best = self.finding(activation).argsort(descending=True)
        chosen = best[: self.per_group]
        return h[chosen] if self.distill == "max" else h[torch.cat([chosen, best[-self.per_group :]])]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        parts = output.extras["parts"]
        repeated = targets.repeat_interleave(parts.to(targets.device), 0)
        first = task_loss.each(output.extras["sub_logits"], repeated)
        per_bag = torch.stack([part.mean() for part in first.split(parts.tolist())])
        return {"bag": task_loss(output.bag_logits, targets), "tier1": per_bag.mean()}


AGGREGATOR = DTFD
