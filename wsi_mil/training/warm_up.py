"""The warm-up of methods that take the maximum over instance logits: which pooling an epoch trains with."""

from torch import nn

from wsi_mil.aggregators.instance_maximum import BagPooling, SmoothMaximum, TopMean, takes_maximum
from wsi_mil.errors import ConfigError
from wsi_mil.training.spec import TrainSpec

SHARPNESS = 1.0
LAST_SHARPNESS = 32.0
"""Of annealed_max in the last epoch of the warm-up; it rises by the same factor from epoch to epoch."""
DEFAULT = "smooth_max"


def warm_up_epochs(spec: TrainSpec, model: nn.Module) -> int:
    """Return how many epochs the warm-up lasts; 0 without one. Raises ConfigError for a method that takes no
    maximum over instance logits, if a warm-up is asked for."""
    if spec.warm_up == "none":
        return 0
    if not takes_maximum(model):
        if spec.warm_up == "auto":
            return 0
        raise ConfigError(
            f"train.warm_up={spec.warm_up}: {type(model).__name__} takes no maximum over instance logits; "
            "leave it at 'auto'"
        )
    return int(spec.warm_up_share * spec.epochs)


def pooling_of(spec: TrainSpec, epoch: int, epochs: int) -> BagPooling | None:
    """Return what replaces the maximum in epoch `epoch` (from 0); None after the `epochs` of the warm-up."""
    if epoch >= epochs:
        return None
    done = epoch / max(epochs - 1, 1)
    kind = DEFAULT if spec.warm_up == "auto" else spec.warm_up
    if kind == "top_k":
        return TopMean(1 - done)
    return SmoothMaximum(SHARPNESS * (LAST_SHARPNESS**done if kind == "annealed_max" else 1.0))
