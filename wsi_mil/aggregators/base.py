"""The interface of every aggregator."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.labels import TaskKind
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ModelError
from wsi_mil.tasks import Task, TaskLoss
from wsi_mil.tasks.base import ClassLoss
from wsi_mil.tasks.losses import class_probabilities

ALL_TASKS: tuple[TaskKind, ...] = get_args(TaskKind)
CLASS_TASKS: tuple[TaskKind, ...] = ("detection", "classification")
"""The tasks of methods that need one output for each class."""


class Aggregator(nn.Module, ABC):
    """A model of packed bags: `n_outputs` numbers per bag, which the task turns into what a person reads.

    `permutes_with_instances`: reordering the instances of a bag reorders their scores and changes nothing
    else.
    `binary_outputs`: how many outputs the method can have for two classes, the published number first: 1
    (sigmoid), 2 (softmax).
    `tasks`: the kinds of task that the method supports; the class says why it leaves one out.
    `small`: parameters that make the method small enough for tests and examples.
    `class_loss`: the form in which the method takes the loss of class labels
    (`wsi_mil.tasks.losses.class_losses`).
    `negative_classes`: how many of several outputs, the first ones, are for slides without a finding; set by
    `build_aggregator`.
    `second_kind`: the kind of the second score that the method gives each instance beside its main one, ""
    for none. `wsi_mil.contracts.score_kinds` lists the kinds.
    `generator`: the source of all random numbers that a method draws in training. It is on the CPU, so that
    the numbers are the same on every device. Training sets it; in evaluation nothing is random.
    """

    permutes_with_instances: ClassVar[bool] = True
    binary_outputs: ClassVar[tuple[int, ...]] = (1, 2)
    tasks: ClassVar[tuple[TaskKind, ...]] = ALL_TASKS
    small: ClassVar[Mapping[str, Any]] = {}
    class_loss: ClassLoss = "softmax"
    negative_classes: int = 1
    second_kind: str = ""

    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__()
        # methods for all tasks have one output for a value or a risk
        least = min(self.binary_outputs) if self.tasks == CLASS_TASKS else 1
        if in_features < 1 or n_outputs < least:
            raise ModelError(
                f"{type(self).__name__} needs in_features >= 1 and n_outputs >= {least}, got "
                f"{in_features}, {n_outputs}"
            )
        self.in_features = in_features
        self.n_outputs = n_outputs
        self.generator: torch.Generator | None = None

    @abstractmethod
    def forward(self, bags: PackedBags) -> AggregatorOutput:
        """Return logits per bag and a score per instance."""

    @abstractmethod
    def loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        """Return the named terms of the loss, already weighted; the training loop adds them up.

        Each is a mean over bags; one of them is called "bag" and compares bag logits with `targets` by
        `task_loss`.
        """

    def positive_scores(self, instance_logits: Tensor) -> Tensor:
        """Return (ΣN,) the largest output of each instance, without that of the normal class where there
        is one."""
        return instance_logits[:, self._negative_of(instance_logits) :].amax(1)

    def finding_logits(self, class_logits: Tensor) -> Tensor:
        """Return (ΣN,) the log odds of a finding from the logits (ΣN, C) of a softmax over classes.

        A finding is any class but the normal ones; without a normal class, the likeliest class. The sigmoid
        of the log odds is the probability of a finding. A single column is already one.
        """
        if class_logits.shape[1] == 1:
            return class_logits[:, 0]
        first = self._negative_of(class_logits)
        if first:
            return class_logits[:, first:].logsumexp(1) - class_logits[:, :first].logsumexp(1)
        ordered = class_logits.sort(1, descending=True).values
        return ordered[:, 0] - ordered[:, 1:].logsumexp(1)

    def positive_attention(self, weights: Tensor) -> Tensor:
        """Return (ΣN,) the mean attention over the branches of weights (ΣN, K), without that of the normal
        class.

        It sums to 1 in a bag as each branch does.
        """
        return weights[:, self._negative_of(weights) :].mean(1)

    def _negative_of(self, outputs: Tensor) -> int:
        """Return how many columns of (N, K) are for negative classes: none of a single one."""
        return min(self.negative_classes, outputs.shape[1] - 1)

    def task_loss(self, task: Task) -> TaskLoss:
        """Return the task's loss in the form that this method takes."""
        return TaskLoss(task, self.class_loss)

    def probabilities(self, bag_logits: Tensor) -> Tensor:
        """Return (B, max(C, 2)) class probabilities of (B, C) bag logits; of tasks with class labels only."""
        return class_probabilities(bag_logits)

    def start_epoch(self, epoch: int) -> None:
        """Do what the method does when epoch `epoch` (from 0) of the training begins."""

    def training_state(self) -> dict[str, Tensor]:
        """Return the tensors besides the weights that the method keeps from epoch to epoch, for an exact
        resume."""
        return {}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `training_state` returned."""

    def drop(self, values: Tensor, rate: float) -> Tensor:
        """Return `values` after dropout: in training, entries are zeroed at `rate` by the handed-in
        generator."""
        if not self.training or rate == 0:
            return values
        kept = torch.rand(values.shape, generator=self.generator).to(values.device) >= rate
        return values * kept / (1 - rate)
