"""Ordinal: classes in an order, such as grades. Li and Lin, Ordinal regression by extended binary classification, 2006.

K classes have K - 1 outputs: output k is the logit of P(class > k). The loss is the mean of their binary cross-entropies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from wsi_mil.contracts.labels import Target, TaskKind
from wsi_mil.tasks.base import ClassLoss, Head
from wsi_mil.tasks.classes import ClassTask, class_index
from wsi_mil.tasks.measures import mean_absolute_error, quadratic_kappa

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ordinal(ClassTask):
    """`slides.class_names` gives the order of the classes from low to high; default: numbers by value.

    >>> Ordinal.of(4).n_outputs(own=1, head="auto")
    3
    """

    kind: ClassVar[TaskKind] = "ordinal"

    def n_outputs(self, own: int, head: Head) -> int:
        return len(self.class_names) - 1

    def losses(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        limits = torch.arange(logits.shape[1], device=targets.device)
        above = (targets[:, None] > limits).to(logits.dtype)  # (B, K - 1)
        return binary_cross_entropy_with_logits(logits, above, reduction="none").mean(1)

    def loss(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        return self.losses(logits, targets, form).mean()

    def predict(self, logits: "Tensor") -> "Tensor":
        """Return (B, K) class probabilities; P(class > k) is first made to fall with k."""
        import torch

        above = logits.sigmoid().cummin(1).values  # (B, K - 1)
        one, zero = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return torch.cat([one, above], 1) - torch.cat([above, zero], 1)

    def measures(self, predictions: "Tensor", targets: Sequence[Target]) -> dict[str, float]:
        labels, found = [class_index(target) for target in targets], predictions.argmax(1).tolist()
        return {"kappa": quadratic_kappa(labels, found), "mae": mean_absolute_error(labels, found)}
