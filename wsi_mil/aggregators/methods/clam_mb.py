"""CLAM, multiple branches: one attention for each class. The formula is in `wsi_mil.aggregators.clam`."""

import torch
from torch import Tensor, nn

from wsi_mil.aggregators.clam import CLAM, Loss
from wsi_mil.bags.segments import Lengths, segment_weighted_sum


class CLAMMB(CLAM):
    """One attention branch and one linear layer to one logit per class. Departures from the paper: see
    `CLAM`.

    >>> len(CLAMMB(in_features=8, n_outputs=3, hidden=6).classifiers)
    3
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 2,
        hidden: int = 512,
        attention: int = 256,
        k_sample: int = 8,
        bag_weight: float = 0.7,
        bag_loss: Loss = "ce",
        instance_loss: Loss = "svm",
        subtyping: bool = False,
        dropout: float = 0.25,
    ) -> None:
        super().__init__(
            in_features,
            n_outputs,
            hidden,
            attention,
            n_outputs,
            k_sample,
            bag_weight,
            bag_loss,
            instance_loss,
            subtyping,
            dropout,
        )
        self.classifiers = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(n_outputs))

    def pool(self, h: Tensor, weights: Tensor, lengths: Lengths) -> Tensor:
        features = segment_weighted_sum(weights, h, lengths)  # -> (B, C, H)
        return torch.cat([head(features[:, k]) for k, head in enumerate(self.classifiers)], 1)


AGGREGATOR = CLAMMB
