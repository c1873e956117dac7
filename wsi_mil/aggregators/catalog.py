"""Build an aggregator by name."""

from typing import Any

import torch

from wsi_mil.aggregators.base import Aggregator
from wsi_mil.aggregators.names import AGGREGATORS
from wsi_mil.errors import ConfigError, nearest


def build_aggregator(name: str, in_features: int, n_outputs: int, seed: int, params: dict[str, Any]) -> Aggregator:
    """Return the aggregator `name` with weights drawn from `seed`; unknown parameters are refused by name."""
    import inspect

    kind: type[Aggregator] = AGGREGATORS.load(name)
    known = [key for key in inspect.signature(kind).parameters if key not in ("in_features", "n_outputs")]
    for key in params:
        if key not in known:
            raise ConfigError(f"aggregator {name!r} has no parameter {key!r}. Nearest: {nearest(key, known)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(in_features=in_features, n_outputs=n_outputs, **params)
