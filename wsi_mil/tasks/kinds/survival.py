"""Survival: the time until an event, or until the patient was last seen without one.

One output r, the log risk:  L = mean over slides of event_i (log sum over j with t_j >= t_i of exp(r_j) -
r_i) Equal times are treated as Breslow did. The sum runs over the slides of one optimiser step: set
train.bags_per_batch to 16 or more. Cox, Regression models and life-tables, J. R. Stat. Soc. B 1972.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from wsi_mil.contracts.labels import Target, TaskKind
from wsi_mil.tasks.base import Cells, ClassLoss, Head, Reading, Task
from wsi_mil.tasks.kinds.regression import number, refuse_settings
from wsi_mil.tasks.measures import concordance_index

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Survival(Task):
    """The columns `time` (positive) and `event` (1, or 0 for censored) of the label table.

    >>> Survival().encode({"time": "12.5", "event": "1"})
    (12.5, 1.0)
    """

    kind: ClassVar[TaskKind] = "survival"
    columns: ClassVar[tuple[str, ...]] = ("time", "event")
    reading: ClassVar[Reading] = "risk"
    merit: ClassVar[str] = "concordance"
    compares_slides: ClassVar[bool] = True

    @classmethod
    def for_table(cls, cells: Sequence[Cells], class_names: tuple[str, ...] | None, **params: object) -> Self:
        refuse_settings("survival", class_names, params)
        return cls()

    def encode(self, cells: Cells) -> tuple[float, float] | None:
        time, event = number(cells, "time"), number(cells, "event")
        if time is None and event is None:
            return None
        if time is None or time <= 0 or event not in (0.0, 1.0):
            raise ValueError(
                f"expected a positive time and event 1 or 0, got {cells['time']!r}, {cells['event']!r}"
            )
        return time, event

    def lacking(self, targets: Sequence[Target]) -> str:
        return "" if any(event for _, event in map(time_event, targets)) else "has no event"

    def strata(self, targets: Sequence[Target]) -> list[int]:
        """Return 1 for an event and 0 for a censored slide; if all are events, 1 from the median time on."""
        pairs = [time_event(target) for target in targets]
        if all(event for _, event in pairs):
            median = sorted(time for time, _ in pairs)[len(pairs) // 2]
            return [int(time >= median) for time, _ in pairs]
        return [int(event) for _, event in pairs]

    def n_outputs(self, own: int, head: Head) -> int:
        return 1

    def losses(self, logits: "Tensor", targets: "Tensor", form: ClassLoss) -> "Tensor":
        import torch

        risk, times, events = logits[:, 0], targets[:, 0], targets[:, 1]
        later = times[None] >= times[:, None]  # (B, B): row i marks the slides at risk at time i
        at_risk = torch.where(later, risk[None], torch.full_like(risk, -torch.inf)[None])
        return events.to(risk.dtype) * (at_risk.logsumexp(1) - risk)

    def predict(self, logits: "Tensor") -> "Tensor":
        return logits[:, :1]

    def measures(self, predictions: "Tensor", targets: Sequence[Target]) -> dict[str, float]:
        times, events = zip(*map(time_event, targets), strict=True)
        return {"concordance": concordance_index(times, events, predictions[:, 0].tolist())}


TASK = Survival


def time_event(target: Target) -> tuple[float, float]:
    """Return the target of survival as (time, event). Raises TypeError for the target of another task."""
    if not isinstance(target, tuple):
        raise TypeError(f"expected (time, event), got {target!r}")
    return target
