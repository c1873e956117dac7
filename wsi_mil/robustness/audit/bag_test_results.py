"""What bag tests say of aggregators: verdicts, and the content of audit.json with `kind` "audit of
aggregators".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from wsi_mil.evaluation.intervals import Spread, spread
from wsi_mil.io.json import without_nan
from wsi_mil.robustness.audit.bag_tests import load_bag_test
from wsi_mil.robustness.audit.bag_tests.base import KEPT_SHARE, PASS_AUC

BagVerdict = Literal["pass", "fail", "not learned"]

KIND = "audit of aggregators"
FORMAT = 2
LEARNED_AUC = 0.9
FIRST_TEST = "single_concept"
"""A method that has not learned this test has not learned to find one kind of positive instance."""


@dataclass(frozen=True)
class BagTestResult:
    """One test with one seed. test_auc: of the test bags; for an invariance test the fraction of right calls,
    and instance_auc is NaN.
    """

    test: str
    seed: int
    train_auc: float
    test_auc: float
    instance_auc: float
    seconds: float

    @property
    def learned(self) -> bool:
        """Whether the training bags were learned: a training AUC of at least 0.9. Else the test says nothing
        about the method."""
        return self.train_auc >= LEARNED_AUC


@dataclass(frozen=True)
class BagTestSummary:
    """One test over several seeds: one training each."""

    test: str
    results: tuple[BagTestResult, ...]

    @property
    def train_auc(self) -> Spread:
        return spread([row.train_auc for row in self.results])

    @property
    def test_auc(self) -> Spread:
        return spread([row.test_auc for row in self.results])

    @property
    def instance_auc(self) -> Spread:
        return spread([row.instance_auc for row in self.results])

    @property
    def worst(self) -> float:
        """The smallest measured value of all trainings; NaN without any."""
        return min(self._measured, default=math.nan)

    @property
    def best(self) -> float:
        """The largest measured value of all trainings; NaN without any."""
        return max(self._measured, default=math.nan)

    @property
    def _measured(self) -> list[float]:
        return [row.test_auc for row in self.results if not math.isnan(row.test_auc)]

    @property
    def learned(self) -> int:
        """How many of the trainings learned their training bags."""
        return sum(row.learned for row in self.results)

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.results)

    @property
    def verdict(self) -> BagVerdict:
        return bag_verdict(self.test, self.results)

    @property
    def held_against(self) -> bool:
        """Whether failing this test fails the audit."""
        return load_bag_test(self.test).held_against


@dataclass(frozen=True)
class AggregatorAudit:
    """All tests of one aggregator."""

    aggregator: str
    tests: tuple[BagTestSummary, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """The failed tests that count for the verdict."""
        return tuple(row.test for row in self.tests if row.held_against and row.verdict == "fail")

    @property
    def verdict(self) -> BagVerdict:
        """fail: a test that counts for the verdict failed. Else what `FIRST_TEST` says, pass without
        it.
        """
        if self.failed:
            return "fail"
        first = next((row.verdict for row in self.tests if row.test == FIRST_TEST), "pass")
        return "pass" if first == "pass" else "not learned"


@dataclass(frozen=True)
class MethodAudit:
    """The audit of several aggregators: what audit.json holds. training: the settings of every training, as
    JSON.
    """

    seeds: tuple[int, ...]
    training: Mapping[str, Any]
    aggregators: tuple[AggregatorAudit, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the content of audit.json; NaN is null."""
        found: dict[str, Any] = without_nan(
            {
                "kind": KIND,
                "format_version": FORMAT,
                "seeds": list(self.seeds),
                "training": dict(self.training),
                "thresholds": {"learned_auc": LEARNED_AUC, "pass_auc": PASS_AUC, "kept_share": KEPT_SHARE},
                "aggregators": [
                    {
                        "aggregator": row.aggregator,
                        "verdict": row.verdict,
                        "failed": list(row.failed),
                        "tests": {test.test: _test_json(test) for test in row.tests},
                    }
                    for row in self.aggregators
                ],
            }
        )
        return found


def _test_json(row: BagTestSummary) -> dict[str, Any]:
    return {
        "train_auc": asdict(row.train_auc),
        "test_auc": asdict(row.test_auc),
        "instance_auc": asdict(row.instance_auc),
        "worst": row.worst,
        "best": row.best,
        "learned": row.learned,
        "verdict": row.verdict,
        "held_against": row.held_against,
        "seconds": row.seconds,
    }


def bag_verdict(test: str, results: Sequence[BagTestResult]) -> BagVerdict:
    """Return the verdict on one test from its trainings, one for each seed.

    A training with a training AUC below 0.9 has not learned, and is not counted. not learned: fewer than half
    of the trainings learned. pass: those that learned reach, on average, 0.75 on the test bags, or 0.9 of
    right calls in an invariance test. fail: below that. Raff and Holt call only an AUC below 0.5 a failure;
    between 0.5 and 0.75 about half of the answer comes from the shortcut.

    >>> one = [BagTestResult("single_concept", 0, train, 0.02, 0.5, 1.0) for train in (1.0, 0.6)]
    >>> bag_verdict("single_concept", one[:1]), bag_verdict("single_concept", one[1:])
    ('fail', 'not learned')
    """
    measured = [row.test_auc for row in results if row.learned and not math.isnan(row.test_auc)]
    if not measured or 2 * len(measured) < len(results):
        return "not learned"
    return "pass" if spread(measured).mean >= load_bag_test(test).pass_from else "fail"


def summarise_bag_tests(name: str, results: Sequence[BagTestResult]) -> AggregatorAudit:
    """Return the audit of one aggregator: the spread over seeds for each test, in the order of `results`."""
    tests = dict.fromkeys(result.test for result in results)
    rows = (BagTestSummary(test, tuple(row for row in results if row.test == test)) for test in tests)
    return AggregatorAudit(name, tuple(rows))
