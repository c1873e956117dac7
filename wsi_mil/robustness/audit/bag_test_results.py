"""What bag tests say of aggregators: verdicts, and the content of audit.json with `kind` "audit of
aggregators".
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from wsi_mil.evaluation.intervals import Spread, spread
from wsi_mil.io.json import without_nan
from wsi_mil.robustness.audit.bag_tests import load_bag_test
from wsi_mil.robustness.audit.bag_tests.base import KEPT_SHARE, PASS_AUC, InvarianceTest

BagVerdict = Literal["pass", "fail", "not learned"]

FORMAT = 1
LEARNED_AUC = 0.9
REVERSED_AUC = 0.25
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


@dataclass(frozen=True)
class BagTestSummary:
    """One test over several seeds."""

    test: str
    train_auc: Spread
    test_auc: Spread
    instance_auc: Spread
    seconds: float

    @property
    def verdict(self) -> BagVerdict:
        return bag_verdict(self.test, self.train_auc.mean, self.test_auc.mean)

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
                "kind": "audit of aggregators",
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
        "verdict": row.verdict,
        "held_against": row.held_against,
        "seconds": row.seconds,
    }


def bag_verdict(test: str, train_auc: float, test_auc: float) -> BagVerdict:
    """Return the verdict on one test from means over seeds.

    not learned: a training AUC below 0.9. pass: at least 0.75 on the test bags, or at least 0.9 of right
    calls in an invariance test. fail: below that. Raff and Holt call only an AUC below 0.5 a failure; between
    0.5 and 0.75 about half of the answer comes from the shortcut. A test AUC below 0.25 is a failure even
    without a training AUC of 0.9, since then the shortcut is what the model has learned.

    >>> bag_verdict("single_concept", 1.0, 0.02), bag_verdict("single_concept", 0.6, 0.6)
    ('fail', 'not learned')
    """
    known = load_bag_test(test)
    if not train_auc >= LEARNED_AUC:
        reversed_answer = not isinstance(known, InvarianceTest) and test_auc < REVERSED_AUC
        return "fail" if reversed_answer else "not learned"
    return "pass" if test_auc >= known.pass_from else "fail"


def summarise_bag_tests(name: str, results: Sequence[BagTestResult]) -> AggregatorAudit:
    """Return the audit of one aggregator: the spread over seeds for each test, in the order of `results`."""
    rows = []
    for test in dict.fromkeys(result.test for result in results):
        own = [result for result in results if result.test == test]
        train, measured, instances = (
            spread([getattr(result, key) for result in own])
            for key in ("train_auc", "test_auc", "instance_auc")
        )
        rows.append(BagTestSummary(test, train, measured, instances, sum(r.seconds for r in own)))
    return AggregatorAudit(name, tuple(rows))
