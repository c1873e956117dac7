"""Numbers of audit.json and poison.json as values of Python: null is NaN."""

import math
from collections.abc import Mapping
from typing import Any

from wsi_mil.evaluation.intervals import Spread


def number(value: float | None) -> float:
    """Return a number of a JSON file; null is NaN.

    >>> number(0.5), number(None)
    (0.5, nan)
    """
    return math.nan if value is None else float(value)


def spread_of(value: Mapping[str, Any]) -> Spread:
    """Return a mean with its standard deviation, t interval and count, as `dataclasses.asdict` wrote it."""
    mean, std, low, high = (number(value[key]) for key in ("mean", "std", "low", "high"))
    return Spread(mean, std, low, high, int(value["count"]))
