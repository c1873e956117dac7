"""Whether a training has learned anything: how much of the validation labels its kept epoch explains.

A model that ignores its slides does best with one and the same output for all of them; with as many tumour as
normal slides its loss is ln 2. The fraction of this loss that a model leaves, after the best scale and shift
of its outputs, is 1 if it has learned nothing and 0 if it separates the slides:

    unexplained = min over a >= 0, b of loss(a x output + b) / min over b of loss(b)

Scale and shift are fitted because a maximum over many instances is often too large for new slides: a model
that ranks all slides right can have a large loss, and its threshold is chosen on validation slides anyway.

How little is nothing depends on the number of validation slides. By chance n slides give a statistic of the
likelihood ratio, 2 n H (1 - unexplained) with H the entropy of their labels, that is larger than 8.32 in 2 of
1,000 cases (half a chi-squared of one degree of freedom, Wilks 1938; the scale has one side). So the limit of
`unexplained` is 0.75 up to 24 slides, and rises with their number: a model of a weak signal, such as a
mutation that tissue shows only in part, has learned if enough slides say so.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from wsi_mil.contracts.labels import Target, TaskKind

if TYPE_CHECKING:
    from torch import Tensor

    from wsi_mil.tasks import TaskLoss

UNEXPLAINED = "val_unexplained"
"""The name of the share in tables."""
LIMIT = "val_unexplained_limit"
"""The name of its limit in tables."""
LEAST_LIMIT = 0.75
"""A training has learned if it leaves less than the limit. Chosen for 24 slides, on draws 301 and 302 of
pipelines/warm_up.py; docs/studies/warm_up.md has its error rates on other draws."""
LEAST_EVIDENCE = 2 * 24 * math.log(2) * (1 - LEAST_LIMIT)
"""The statistic of the likelihood ratio at which 24 slides, half of them tumour, reach that limit: 8.32."""
JUDGED: tuple[TaskKind, ...] = ("detection", "classification")
"""The tasks that are judged. A good model of values or of survival can leave most of the loss of a constant:
the noise of the labels is part of it."""
NOT_LEARNED = "has not learned"
"""How tables, maps and the report say it."""
LARGEST_LOG_SCALE = 10.0


def unexplained_share(task_loss: "TaskLoss", logits: "Tensor", targets: Sequence[Target]) -> float:
    """Return the fraction of the loss of the best constant that bag logits (B, C) leave; NaN if all targets
    are equal, and for tasks that are not judged.

    >>> import torch
    >>> from wsi_mil.tasks import Detection, TaskLoss
    >>> loss = TaskLoss(Detection.of(2), "softmax")
    >>> round(unexplained_share(loss, torch.tensor([[0.0], [1.0], [2.0], [1.0]]), [0, 1, 1, 0]), 3)
    0.5
    """
    import torch  # here: tables and the report need the words of this module, and no torch

    if len(set(targets)) < 2 or task_loss.task.kind not in JUDGED:
        return math.nan
    with torch.inference_mode(False), torch.enable_grad():  # validation runs in inference mode
        truth = torch.tensor(targets)
        values = logits.detach().double().clone()
        values = (values - values.mean(0)) / values.std().clamp_min(1e-12)
        shift = torch.zeros(values.shape[1], dtype=torch.float64, requires_grad=True)
        scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
        constant = _least([shift], lambda: task_loss(shift.expand_as(values), truth))
        least = _least([shift, scale], lambda: task_loss(scale * values + shift, truth))
    # the losses are convex in scale and shift: if the best scale is negative, the best one from 0 on is 0
    return 1.0 if float(scale.detach()) <= 0 else min(least / constant, 1.0)


def _least(parameters: "list[Tensor]", loss_of: "Callable[[], Tensor]") -> float:
    """Change parameters in place to the minimum of a loss; return the minimum."""
    import torch

    optimizer = torch.optim.LBFGS(parameters, max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> "Tensor":
        optimizer.zero_grad()
        found = loss_of()
        if found.requires_grad:  # the loss of survival does not depend on a constant
            found.backward()
        return found

    optimizer.step(loss)
    return float(loss().detach())


def unexplained_limit(targets: Sequence[Target]) -> float:
    """Return the limit of the share for validation slides with these class indices; NaN if all are equal.

    >>> round(unexplained_limit([0, 1] * 12), 3), round(unexplained_limit([0, 1] * 100), 3)
    (0.75, 0.97)
    """
    counts = Counter(targets).values()
    total = sum(counts)
    if len(counts) < 2:
        return math.nan
    entropy = -sum(count / total * math.log(count / total) for count in counts)
    return max(LEAST_LIMIT, 1 - LEAST_EVIDENCE / (2 * total * entropy))


def learning_measures(task_loss: "TaskLoss", logits: "Tensor", targets: Sequence[Target]) -> dict[str, float]:
    """Return the share and its limit by their names in tables; NaN for tasks that are not judged."""
    share = unexplained_share(task_loss, logits, targets)
    return {UNEXPLAINED: share, LIMIT: math.nan if math.isnan(share) else unexplained_limit(targets)}


def has_learned(metrics: Mapping[str, float]) -> bool | None:
    """Return whether the share that the kept epoch leaves is below its limit; None if it is not known (no
    validation slides, or all of one class). Metrics of former versions have no limit: 0.75.

    >>> has_learned({"val_unexplained": 0.9, "val_unexplained_limit": 0.97}), has_learned({})
    (True, None)
    """
    unexplained = metrics.get(UNEXPLAINED, math.nan)
    return None if math.isnan(unexplained) else unexplained < metrics.get(LIMIT, LEAST_LIMIT)


def not_learned_line(metrics: Mapping[str, float]) -> str:
    """Return the words for a training whose share is at or above the limit.

    >>> not_learned_line({"val_unexplained": 0.97})
    'has not learned: it explains 3 % of the labels of the validation slides (at least 25 % expected)'
    """
    explained, expected = 1 - metrics[UNEXPLAINED], 1 - metrics.get(LIMIT, LEAST_LIMIT)
    return (
        f"{NOT_LEARNED}: it explains {100 * explained:.0f} % of the labels of the validation slides "
        f"(at least {100 * expected:.0f} % expected)"
    )
