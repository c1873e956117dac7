"""ACMIL: several different attention branches, whose strongest instances are masked at random. Zhang et al.,
ECCV 2024.

h = ReLU(W x);  branch k: a_k = softmax_i(raw_k),  logits_k = C_k sum_i a_ki h_i
bag attention = mean_k a_k,  bag logits = C sum_i a_i h_i
training: of each branch's `masked` highest raw scores, int(rate * masked) drawn at random are set to -1e9
L = CE(bag) + mean_k CE(branch k) + mean cosine similarity of all pairs of branch attentions
"""

from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.aggregators.attention import AttentionAggregator, AttentionNet
from wsi_mil.bags.segments import Lengths, segment_softmax, segment_weighted_sum, split
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss

MASKED = -1e9


class ACMIL(AttentionAggregator):
    """`branches` 1 and `masked` 0 give plain gated attention.

    Departures from the paper: the training is that of `train`; published are AdamW at 2e-4 or 1e-4, weight
    decay 1e-5, 100 epochs, one bag a step. The sizes are those of the code for ResNet-18 features.

    Attention is the only instance score: all classifiers of the paper are of bag features.

    >>> ACMIL(in_features=8, n_outputs=2, hidden=6).attention.w
    Linear(in_features=128, out_features=5, bias=True)
    """

    small: ClassVar[dict[str, object]] = {"hidden": 16, "attention": 8}

    binary_outputs = (2,)

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 2,
        hidden: int = 256,
        attention: int = 128,
        branches: int = 5,
        masked: int = 10,
        mask_rate: float = 0.6,
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.masked, self.mask_rate = masked, mask_rate
        self.embed = nn.Linear(in_features, hidden, bias=False)
        self.attention = AttentionNet(hidden, attention, branches)
        self.branch_classifiers = nn.ModuleList(nn.Linear(hidden, n_outputs) for _ in range(branches))
        self.classifier = nn.Linear(hidden, n_outputs)

    def forward(self, bags: PackedBags, draws: Sequence[Tensor] | None = None) -> AggregatorOutput:
        """Return the output. `draws`: for each bag (branches, min(masked, n)) uniform numbers, whose order
        chooses what is masked; default: drawn from the generator.
        """
        h = torch.relu(self.embed(bags.features))  # (ΣN, D) -> (ΣN, H)
        raw = self.attention(h)  # -> (ΣN, K)
        if self.training and self.masked > 0:
            raw = self.mask_strongest(raw, bags.lengths, draws)
        each = segment_softmax(raw, bags.lengths)
        weights = each.mean(1, keepdim=True)  # -> (ΣN, 1)
        features = segment_weighted_sum(each, h, bags.lengths)  # -> (B, K, H)
        branch_logits = torch.stack(
            [head(features[:, k]) for k, head in enumerate(self.branch_classifiers)], 1
        )
        extras = {
            "h": h,
            "weights": weights,
            "attention_raw": raw,
            "branch_attention": each,
            "branch_logits": branch_logits,  # (B, K, C)
        }
        return AggregatorOutput(bags, self.pool(h, weights, bags.lengths), weights[:, 0], "attention", extras)

    def mask_strongest(self, raw: Tensor, lengths: Lengths, draws: Sequence[Tensor] | None) -> Tensor:
        """Return raw scores (ΣN, K) with some of each bag's and branch's strongest set to -1e9."""
        masked = []
        for bag, part in enumerate(split(raw, lengths)):
            strongest = min(self.masked, len(part))
            top = part.detach().topk(strongest, dim=0).indices  # (m, K)
            shape = (part.shape[1], strongest)
            draw = draws[bag] if draws is not None else torch.rand(shape, generator=self.generator)
            chosen = draw.argsort(1)[:, : int(self.mask_rate * strongest)].T.to(top.device)  # (dropped, K)
            masked.append(part.scatter(0, top.gather(0, chosen), MASKED))
        return torch.cat(masked)

    def pool(self, h: Tensor, weights: Tensor, lengths: Lengths) -> Tensor:
        return self.classifier(segment_weighted_sum(weights[:, 0], h, lengths))  # type: ignore[no-any-return]

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        branch_logits = output.extras["branch_logits"]
        branches = branch_logits.shape[1]
        terms = {
            "bag": task_loss(output.bag_logits, targets),
            "branches": task_loss(branch_logits.flatten(0, 1), targets.repeat_interleave(branches, 0)),
        }
        if branches > 1:
            terms["diversity"] = similarity(output.extras["branch_attention"], output.bags.lengths)
        return terms


def similarity(attention: Tensor, lengths: Lengths) -> Tensor:
    """Return the mean over bags and pairs of columns of the cosine similarity of attention (ΣN, K)."""
    pairs = list(combinations(range(attention.shape[1]), 2))
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    per_bag = [
        F.cosine_similarity(p[:, first], p[:, second], dim=0).mean() for p in split(attention, lengths)
    ]
    return torch.stack(per_bag).mean()


AGGREGATOR = ACMIL
