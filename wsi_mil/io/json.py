"""JSON values: JSON knows no NaN and no infinity."""

import math
from typing import Any


def without_nan(value: Any) -> Any:
    """Return `value` with None in place of every NaN and infinity, and lists in place of tuples, at any depth.

    >>> without_nan({"auc": float("nan"), "range": (0.0, float("inf"))})
    {'auc': None, 'range': [0.0, None]}
    """
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
