"""The base of wrappers: methods that add a term to the loss of an attention aggregator."""

from dataclasses import replace

from torch import Tensor

from wsi_mil.aggregators.attention import AttentionAggregator
from wsi_mil.aggregators.base import Aggregator
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ModelError
from wsi_mil.tasks import TaskLoss


class AttentionWrapper(Aggregator):
    """Holds the wrapped aggregator as `base`, and passes generator, epochs and training state on to it."""

    def __init__(self, base: AttentionAggregator) -> None:
        if not isinstance(base, AttentionAggregator):
            raise ModelError(
                f"{type(base).__name__} does not expose its attention weights: it cannot be wrapped"
            )
        super().__init__(base.in_features, base.n_outputs)
        self.base = base
        self.second_kind = base.second_kind

    def run_base(self, bags: PackedBags) -> AggregatorOutput:
        """Return the wrapped aggregator's output, its random numbers drawn from this one's generator."""
        self.base.generator = self.generator
        return self.base(bags)  # type: ignore[no-any-return]

    def base_loss(self, output: AggregatorOutput, targets: Tensor, task_loss: TaskLoss) -> dict[str, Tensor]:
        """Return the loss terms of the wrapped aggregator, which gets the task's loss in its own form."""
        return self.base.loss(output, targets, replace(task_loss, form=self.base.class_loss))

    @staticmethod
    def with_extras(output: AggregatorOutput, extras: dict[str, Tensor]) -> AggregatorOutput:
        return replace(output, extras={**output.extras, **extras})

    def start_epoch(self, epoch: int) -> None:
        self.base.start_epoch(epoch)

    def training_state(self) -> dict[str, Tensor]:
        return self.base.training_state()

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        self.base.load_training_state(state)
