"""The value of a metric: with an interval where one is known, and with a reason where the value is
undefined."""

import math
from dataclasses import dataclass

from wsi_mil.contracts.record import Record, require, require_name


@dataclass(frozen=True)
class Interval(Record):
    """A confidence interval from `low` to `high`.

    method: the name of what computed it. level: its confidence, between 0 and 1.
    draws: the number of bootstrap samples in which the metric was defined. If they are too few, or if the
    metric was the same in all of them, both limits are NaN.
    one_sided: whether only one of the limits is a confidence bound; the other one is the largest or the
    smallest possible value.
    """

    low: float
    high: float
    method: str
    level: float = 0.95
    draws: int = 0
    one_sided: bool = False

    def __post_init__(self) -> None:
        where = f"interval by {self.method!r}"
        require_name(self.method, where, "method")
        undefined = math.isnan(self.low) and math.isnan(self.high)
        expected = f"at most high ({self.high}), or NaN like it"
        require(undefined or self.low <= self.high, where, "low", expected, self.low)
        require(0 < self.level < 1, where, "level", "between 0 and 1", self.level)
        require(self.draws >= 0, where, "draws", "0 or more", self.draws)

    @property
    def defined(self) -> bool:
        """Whether the limits are known."""
        return not (math.isnan(self.low) or math.isnan(self.high))


@dataclass(frozen=True)
class Metric(Record):
    """The value of a metric.

    value: NaN exactly where the metric is undefined; `reason` then says why.
    n: the number of slides, tiles or lesions that it was computed from.

    >>> Metric(math.nan, reason="one class only", n=4).defined
    False
    """

    value: float
    interval: Interval | None = None
    reason: str = ""
    n: int = 0

    def __post_init__(self) -> None:
        where = f"metric of value {self.value}"
        expected = "given exactly where the value is NaN"
        require(math.isnan(self.value) == bool(self.reason), where, "reason", expected, self.reason)
        require(self.n >= 0, where, "n", "0 or more", self.n)

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)
