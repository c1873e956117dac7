"""The value of a metric: with an interval where one is known, and with a reason where it is undefined."""

import math
from dataclasses import dataclass
from typing import Any

from wsi_mil.errors import DataError


@dataclass(frozen=True)
class Interval:
    """`low` to `high` at confidence `level`, and the method that gave it."""

    low: float
    high: float
    method: str
    level: float = 0.95


@dataclass(frozen=True)
class Metric:
    """`value` is NaN exactly where the metric is undefined, and `reason` then says why. `n`: how many slides, tiles
    or lesions it was computed from.

    >>> Metric(math.nan, reason="one class only", n=4).defined
    False
    """

    value: float
    interval: Interval | None = None
    reason: str = ""
    n: int = 0

    def __post_init__(self) -> None:
        if math.isnan(self.value) != bool(self.reason):
            raise DataError(
                f"a metric has a reason exactly where it is undefined: {self.value} with {self.reason!r}"
            )

    @property
    def defined(self) -> bool:
        return not math.isnan(self.value)

    def as_dict(self) -> dict[str, Any]:
        """Return the metric as plain values for a file; NaN becomes None."""
        interval = None
        if self.interval is not None:
            bounds = (self.interval.low, self.interval.high)
            low, high = (None if math.isnan(bound) else bound for bound in bounds)
            interval = {
                "low": low,
                "high": high,
                "level": self.interval.level,
                "method": self.interval.method,
            }
        value = self.value if self.defined else None
        return {"value": value, "interval": interval, "reason": self.reason, "n": self.n}
