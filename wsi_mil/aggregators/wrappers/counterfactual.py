"""Counterfactual attention learning on bags. Rao, Chen, Lu and Zhou, ICCV 2021, with instances in place of
positions.

effect = logits(attention) - logits(counterfactual attention)
L = method_weight * L_method + effect_weight * CE(effect, y),   1/3 and 1 as in the paper's code

The counterfactual maps of the paper are not normalised. Here they are scaled to sum to 1 in a bag, as
attention does:
  random    w_i ~ U(0, 2)
  uniform   w_i = 1 / n, the mean of the real attention
  reversed  w_i = max_j a_j - a_i
  shuffled  the real weights, permuted among the instances of their bag
The prediction is that of the wrapped method: nothing is added at inference.
"""

from typing import Literal

import torch
from torch import Tensor

from wsi_mil.aggregators.attention import AttentionAggregator
from wsi_mil.aggregators.base import CLASS_TASKS
from wsi_mil.aggregators.wrapper import AttentionWrapper
from wsi_mil.bags.segments import split
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TaskLoss

Kind = Literal["random", "uniform", "reversed", "shuffled"]


class Counterfactual(AttentionWrapper):
    """`base`: any attention aggregator. In evaluation the counterfactual is the uniform one, so that nothing
    is random; the published code takes ones.

    Departures from the paper: instances of a bag in place of positions of an image, so there are no crops and
    drops of the image and no term for them; no centre loss; the classifier is the method's own, with its
    bias, on features that are not multiplied by 100; counterfactual weights sum to 1 in a bag, as attention
    does. The weights 1/3 of the method's loss and 1 of the effect are those of the published code.
    """

    tasks = CLASS_TASKS

    def __init__(
        self,
        base: AttentionAggregator,
        kind: Kind = "random",
        effect_weight: float = 1.0,
        method_weight: float = 1 / 3,
    ) -> None:
        super().__init__(base)
        if kind not in ("random", "uniform", "reversed", "shuffled"):
            raise ConfigError(
                f"counterfactual: kind must be random, uniform, reversed or shuffled, got {kind!r}"
            )
        self.kind, self.effect_weight, self.method_weight = kind, effect_weight, method_weight

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        output = self.run_base(bags)
        real = output.extras["weights"]
        parts = [self.replaced(part) for part in split(real, bags.lengths)]
        other = self.base.pool(output.extras["h"], torch.cat(parts), bags.lengths)
        return self.with_extras(output, {"effect": output.bag_logits - other})

    def replaced(self, weights: Tensor) -> Tensor:
        """Return counterfactual weights (n, K), each column summing to 1, for one bag's weights (n, K)."""
        kind = self.kind if self.training else "uniform"
        if kind == "random":
            return scaled(2 * torch.rand(weights.shape, generator=self.generator).to(weights))
        if kind == "reversed":
            return scaled(weights.amax(0) - weights)
        if kind == "shuffled":
            return weights[torch.randperm(len(weights), generator=self.generator).to(weights.device)]
        return torch.full_like(weights, 1 / len(weights))

    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        effect = self.effect_weight * task_loss(output.extras["effect"], targets)
        own = self.base_loss(output, targets, task_loss)
        return {**{name: self.method_weight * term for name, term in own.items()}, "effect": effect}


def scaled(weights: Tensor) -> Tensor:
    """Return columns of weights (n, K) divided by their sums; a column of zeros becomes uniform."""
    total = weights.sum(0, keepdim=True)
    return torch.where(
        total > 0, weights / total.clamp_min(1e-12), torch.full_like(weights, 1 / len(weights))
    )


WRAPPER = Counterfactual
