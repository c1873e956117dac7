"""Guided attention on bags: Li, Wu, Peng, Ernst and Fu, Tell me where to look (GAIN), CVPR 2018, with
instances for pixels.

t_i = (a_i - min a) / (max a - min a);  T_i = sigmoid(omega (t_i - sigma))          what the model attends to
rest = attention a_i (1 - T_i), scaled to sum to 1: the bag without it
L = L_method + mining_weight * mean over bags of P(true class | rest)      0 for bags of the normal class
    + guidance_weight * mean over annotated bags of mean_i (t_i - H_i)^2    H_i: 1 tumour, 0 not
"""

import torch
from torch import Tensor

from wsi_mil.aggregators.attention import AttentionAggregator
from wsi_mil.aggregators.base import CLASS_TASKS
from wsi_mil.aggregators.wrapper import AttentionWrapper
from wsi_mil.aggregators.wrappers.counterfactual import scaled
from wsi_mil.bags.segments import split
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.tasks import TaskLoss
from wsi_mil.tasks.losses import class_probabilities

FLOOR = 1e-12


class Guided(AttentionWrapper):
    """`base`: any attention aggregator. The default weights, `sigma` and `omega` are as published or commonly
    used.

    Departures from the paper: the attention is that of the aggregator, where GAIN computes it from gradients
    (Grad-CAM); instances of a bag in place of pixels; the mining term is the probability of the true class,
    where the paper has its score, and only bags with a finding are mined, since a normal bag without some of
    its tiles is normal. The attention is stretched to 0 .. 1 in each bag.

    The guidance term needs bags with instance labels, which `train.annotated_share` takes from the outlines
    of a few training slides; without such bags it is left out. The gradient passes through the mask. Without
    its only instance a bag of one is empty, so it has no mining term.
    """

    tasks = CLASS_TASKS

    def __init__(
        self,
        base: AttentionAggregator,
        mining_weight: float = 1.0,
        guidance_weight: float = 10.0,
        sigma: float = 0.5,
        omega: float = 10.0,
    ) -> None:
        super().__init__(base)
        self.mining_weight, self.guidance_weight = mining_weight, guidance_weight
        self.sigma, self.omega = sigma, omega

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        output = self.run_base(bags)
        weights = output.extras["weights"]
        stretched = torch.cat([min_max(part) for part in split(weights, bags.lengths)])  # (ΣN, K) in [0, 1]
        kept = weights * (1 - torch.sigmoid(self.omega * (stretched - self.sigma)))
        rest = torch.cat([scaled(part) for part in split(kept, bags.lengths)])
        rest_logits = self.base.pool(output.extras["h"], rest, bags.lengths)
        return self.with_extras(output, {"rest_logits": rest_logits, "stretched": stretched})

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        terms = self.base_loss(output, targets, task_loss)
        true_class = class_probabilities(output.extras["rest_logits"]).gather(1, targets[:, None])[:, 0]
        found = task_loss.task.finding(targets)
        several = torch.tensor([n > 1 for n in output.bags.lengths], device=targets.device)
        terms["mining"] = self.mining_weight * (true_class * found * several).mean()
        truth = output.bags.instance_labels
        if truth is not None:
            terms["guidance"] = self.guidance_weight * self.supervision(output, truth)
        return terms

    def supervision(self, output: AggregatorOutput, truth: Tensor) -> Tensor:
        """Return the mean, over the bags that have instance labels, of the squared error of the stretched
        attention."""
        attention = self.positive_attention(output.extras["stretched"])
        errors = []
        for guess, mark in zip(*(split(v, output.bags.lengths) for v in (attention, truth)), strict=True):
            known = mark >= 0
            if bool(
                (mark > 0).any()
            ):  # a bag without a marked instance has no place that attention should be at
                errors.append((guess[known] - mark[known].to(guess)).square().mean())
        return torch.stack(errors).mean() if errors else attention.sum() * 0


def min_max(weights: Tensor) -> Tensor:
    """Return columns of weights (n, K) stretched to [0, 1]; a constant column becomes 0."""
    low = weights.amin(0)
    return (weights - low) / (weights.amax(0) - low).clamp_min(FLOOR)


WRAPPER = Guided
