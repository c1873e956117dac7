"""Ordinal: classes in an order, such as grades.

K classes have K - 1 outputs: output k is the logit of P(class > k). The loss is the mean of their binary
cross-entropies. Li and Lin, Ordinal regression by extended binary classification, NeurIPS 2006.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from wsi_mil.contracts.labels import Target, TaskKind
from wsi_mil.errors import ConfigError
from wsi_mil.tasks.base import Cells, ClassLoss, Head
from wsi_mil.tasks.classes import ClassTask, class_index, label_order
from wsi_mil.tasks.measures import mean_absolute_error, quadratic_kappa

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ordinal(ClassTask):
    """`slides.class_names` gives the order of the classes from low to high. Labels that are numbers need
    none.

    >>> Ordinal.of(4).n_outputs(own=1, head="auto")
    3
    """

    kind: ClassVar[TaskKind] = "ordinal"
    merit: ClassVar[str] = "kappa"

    @classmethod
    def for_table(cls, cells: Sequence[Cells], class_names: tuple[str, ...] | None, **params: object) -> Self:
        found = super().for_table(cells, class_names, **params)
        if class_names is None and (words := [name for name in found.class_names if label_order(name)[0]]):
            raise ConfigError(
                f"slides.class_names: task ordinal cannot know the order of {', '.join(words)}: name all "
                "classes, the lowest first"
            )
        return found

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
        """Return (B, K) class probabilities. P(class > k) is lowered where it would rise with k."""
        import torch

        above = logits.sigmoid().cummin(1).values  # (B, K - 1)
        one, zero = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return torch.cat([one, above], 1) - torch.cat([above, zero], 1)

    def measures(self, predictions: "Tensor", targets: Sequence[Target]) -> dict[str, float]:
        labels, found = [class_index(target) for target in targets], predictions.argmax(1).tolist()
        return {"kappa": quadratic_kappa(labels, found), "mae": mean_absolute_error(labels, found)}


TASK = Ordinal
