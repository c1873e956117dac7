"""The value of a metric: with an interval where one is known, and with a reason where the value is undefined."""

import math
from dataclasses import dataclass

from wsi_mil.errors import DataError


@dataclass(frozen=True)
class Interval:
    """`low` to `high` at confidence `level`, and the method that gave it.

    `draws`: the resamples on which a bootstrap found the metric defined. If these are too few, both limits are NaN.
    """

    low: float
    high: float
    method: str
    level: float = 0.95
    draws: int = 0

    @property
    def defined(self) -> bool:
        return not (math.isnan(self.low) or math.isnan(self.high))


@dataclass(frozen=True)
class Metric:
    """`value` is NaN exactly where the metric is undefined; `reason` then says why. `n`: how many slides, tiles or
    lesions it was computed from.

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
