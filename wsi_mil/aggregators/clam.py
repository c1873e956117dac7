"""CLAM: gated attention with instance clustering. Lu, Williamson, Chen, Chen, Barbieri and Mahmood, Nature
BME 2021.

a = softmax_i( w . (tanh(V h_i) * sigmoid(U h_i)) ), one branch (SB) or one for each class (MB)
bag features M = A h

For a bag of class y, the instance classifier of class y learns from the k instances of highest attention
(target 1) and the k of lowest attention (target 0). `subtyping`: the classifier of every other class learns
from its k highest, with target 0.

L = bag_weight * bag loss + (1 - bag_weight) * instance loss
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.aggregators.attention import AttentionAggregator, AttentionNet
from wsi_mil.aggregators.base import CLASS_TASKS
from wsi_mil.bags.segments import segment_softmax, segment_top
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TaskLoss

Loss = Literal["ce", "svm"]


class CLAM(AttentionAggregator):
    """The base of both forms. `k_sample`: instances in a cluster. The choice has no gradient: the instance
    loss trains `embed` and the instance classifiers only.

    The second instance score is that of the instance classifiers: of class c, the log odds that the instance
    supports c, s_ic = (W_c h_i + b_c)[1] - (W_c h_i + b_c)[0]; of several positive classes the largest. The
    paper trains them ("instance-level clustering") and draws its maps from the attention.

    Departures from the paper and its code: a bag with fewer than `k_sample` instances gives all it has, where
    the code stops. The smooth SVM loss is written out for temperature 1 instead of the package that the code
    imports. The training is that of `train`: published are Adam at 2e-4 with weight decay 1e-5, one slide a
    step, slides drawn so that classes are balanced, at most 200 epochs, stopped by the validation loss. The
    published input is 1024 wide (ResNet-50). The published recipe for tumour against normal asks for
    `k_sample` 10; the default here is that of the code, 8. For two classes the instance loss is that of the
    bag's class alone (`subtyping` False), as published.
    """

    binary_outputs = (2,)
    tasks = CLASS_TASKS
    small: ClassVar[dict[str, object]] = {"hidden": 16, "attention": 8}
    second_kind = "logit"

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        hidden: int,
        attention: int,
        branches: int,
        k_sample: int,
        bag_weight: float,
        bag_loss: Loss,
        instance_loss: Loss,
        subtyping: bool,
        dropout: float,
    ) -> None:
        super().__init__(in_features, n_outputs)
        if bag_loss not in ("ce", "svm") or instance_loss not in ("ce", "svm"):
            raise ConfigError(
                f"clam: bag_loss and instance_loss must be ce or svm, got {bag_loss!r}, {instance_loss!r}"
            )
        self.k_sample, self.bag_weight, self.subtyping, self.dropout = (
            k_sample,
            bag_weight,
            subtyping,
            dropout,
        )
        self.bag_loss, self.instance_loss = bag_loss, instance_loss
        self.embed = nn.Linear(in_features, hidden)
        self.attention = AttentionNet(hidden, attention, branches)
        self.instance_classifiers = nn.ModuleList(nn.Linear(hidden, 2) for _ in range(n_outputs))

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        h = self.drop(torch.relu(self.embed(bags.features)), self.dropout)  # (ΣN, D) -> (ΣN, H)
        raw = self.attention.w(self.drop(self.attention.hidden(h), self.dropout))  # -> (ΣN, K)
        weights = segment_softmax(raw, bags.lengths)
        logits = self.pool(h, weights, bags.lengths)
        extras = {"h": h, "weights": weights, "attention_raw": raw}
        return AggregatorOutput(
            bags,
            logits,
            self.positive_attention(weights),
            "attention",
            extras,
            second_scores=self.positive_scores(self.cluster_logits(h)),
            second_kind=self.second_kind,
        )

    def cluster_logits(self, h: Tensor) -> Tensor:
        """Return (ΣN, C) the log odds, by the instance classifier of each class, that instances h (ΣN, H)
        belong to the cluster of high attention."""
        found = [classifier(h) for classifier in self.instance_classifiers]  # each (ΣN, 2)
        return torch.stack([logits[:, 1] - logits[:, 0] for logits in found], 1)

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        clustering = self.clustering_loss(output, targets)
        logits = output.bag_logits
        bag = task_loss(logits, targets) if self.bag_loss == "ce" else smooth_svm(logits, targets)
        return {
            "bag": self.bag_weight * bag,
            "instance": (1 - self.bag_weight) * clustering,
        }

    def clustering_loss(self, output: AggregatorOutput, labels: Tensor) -> Tensor:
        """Return the mean over bags of the instance classifiers' loss on the highest and lowest attention."""
        h, raw, lengths = output.extras["h"], output.extras["attention_raw"], output.bags.lengths
        top = [segment_top(column, self.k_sample, lengths) for column in raw.T]
        bottom = [segment_top(column, self.k_sample, lengths, largest=False) for column in raw.T]
        losses = []
        for bag, label in enumerate(labels.tolist()):
            terms = []
            for k in range(self.n_outputs) if self.subtyping else [label]:
                branch = min(k, len(top) - 1)  # one branch serves every class
                rows = torch.cat([top[branch][bag], bottom[branch][bag]]) if k == label else top[branch][bag]
                targets = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
                targets[: len(top[branch][bag])] = int(k == label)
                loss = F.cross_entropy if self.instance_loss == "ce" else smooth_svm
                terms.append(loss(self.instance_classifiers[k](h[rows]), targets))
            losses.append(torch.stack(terms).mean())
        return torch.stack(losses).mean()


def smooth_svm(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the smooth top-1 SVM loss with margin 1 and temperature 1: the mean over rows of
    log sum_j exp(s_j + [j != y]) - s_y (Berrada, Zisserman and Kumar, ICLR 2018)."""
    margin = 1 - F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return F.cross_entropy(logits + margin, labels)
