"""Balance of classes: weights of the loss, and the order in which bags are seen."""

from collections import Counter
from collections.abc import Sequence

import torch

from wsi_mil.contracts.labels import Target
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import Task
from wsi_mil.training.spec import TrainSpec


def class_weights(labels: Sequence[Target], classes: int) -> tuple[float, ...]:
    """Return n / (K n_c) for each class c of K that occur among the n labels; 0 for one that does not occur.

    The mean weight over the bags is 1, so that the learning rate keeps its meaning. They are those of King &
    Zeng, Political Analysis 2001, and of class_weight="balanced" in scikit-learn.

    >>> class_weights([0, 0, 0, 1], 2)
    (0.6666666666666666, 2.0)
    """
    counts = Counter(labels)
    return tuple(len(labels) / (len(counts) * counts[c]) if counts[c] else 0.0 for c in range(classes))


def balanced_order(labels: Sequence[Target], generator: torch.Generator) -> list[int]:
    """Return the numbers of as many bags as there are labels, in which classes take turns.

    Each class has its own shuffled order, and starts it again when it is used up: bags of a rare class are
    seen several times in an epoch, and some of a frequent one not at all. Any K consecutive places that start
    at a multiple of K hold each of the K classes once.

    >>> order = balanced_order([0, 0, 0, 0, 0, 1], torch.Generator().manual_seed(0))
    >>> sum(number == 5 for number in order)
    3
    """
    members = [[i for i, label in enumerate(labels) if label == one] for one in sorted(set(labels))]
    decks: list[list[int]] = [[] for _ in members]
    order: list[int] = []
    while len(order) < len(labels):
        for one in torch.randperm(len(members), generator=generator).tolist():
            if not decks[one]:
                shuffled = torch.randperm(len(members[one]), generator=generator).tolist()
                decks[one] = [members[one][i] for i in shuffled]
            order.append(decks[one].pop())
    return order[: len(labels)]


def epoch_order(spec: TrainSpec, labels: Sequence[Target], generator: torch.Generator) -> list[int]:
    """Return the numbers of the bags in the order of one epoch, as `train.sampler` says."""
    if spec.sampler == "balanced":
        return balanced_order(labels, generator)
    order: list[int] = torch.randperm(len(labels), generator=generator).tolist()
    return order


def loss_weights(spec: TrainSpec, task: Task, labels: Sequence[Target]) -> tuple[float, ...]:
    """Return the weights that `train.class_weight` gives the classes; () for none.

    Raises ConfigError if the task has no classes to balance.
    """
    asked = [key for key in ("class_weight", "sampler") if getattr(spec, key) == "balanced"]
    if asked and not task.class_names:
        raise ConfigError(f"train.{asked[0]}=balanced: the task {task.kind} has no classes: leave it out")
    if spec.class_weight == "none":
        return ()
    return class_weights(labels, len(task.class_names))
