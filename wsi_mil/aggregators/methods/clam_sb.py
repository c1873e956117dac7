"""CLAM, single branch: one attention for all classes. The formula is in `wsi_mil.aggregators.clam`."""

from torch import Tensor, nn

from wsi_mil.aggregators.clam import CLAM, Loss
from wsi_mil.bags.segments import Lengths, segment_weighted_sum


class CLAMSB(CLAM):
    """One attention branch, one linear layer to all classes. Departures from the paper: see `CLAM`.

    >>> CLAMSB(in_features=8, n_outputs=2, hidden=6).classifier
    Linear(in_features=6, out_features=2, bias=True)
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
            1,
            k_sample,
            bag_weight,
            bag_loss,
            instance_loss,
            subtyping,
            dropout,
        )
        self.classifier = nn.Linear(hidden, n_outputs)

    def pool(self, h: Tensor, weights: Tensor, lengths: Lengths) -> Tensor:
        return self.classifier(segment_weighted_sum(weights[:, 0], h, lengths))  # type: ignore[no-any-return]


AGGREGATOR = CLAMSB
