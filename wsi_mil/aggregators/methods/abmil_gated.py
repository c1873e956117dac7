"""Gated attention pooling: abmil with a = softmax_i( w . (tanh(V h_i) * sigmoid(U h_i)) ). Ilse et al.,
ICML 2018."""

from collections.abc import Sequence

from wsi_mil.aggregators.methods.abmil import ABMIL


class GatedABMIL(ABMIL):
    """ABMIL with gated attention; everything else is the same.

    >>> GatedABMIL(in_features=8, attention=4, hidden=(6,)).attention.U
    Linear(in_features=6, out_features=4, bias=True)
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int = 1,
        hidden: Sequence[int] = (256,),
        attention: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, n_outputs, hidden, attention, gated=True, dropout=dropout)


AGGREGATOR = GatedABMIL
