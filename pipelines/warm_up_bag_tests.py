"""The bag tests of the audit for max-pooling methods, with and without a warm-up.

Question: does a smooth maximum in the first half of the epochs change which shortcuts a method takes?

Data: generated bags of the tests of `wsi-mil audit --aggregator` (wsi_mil/robustness/audit/bag_tests/), with
its training, which has no warm-up.

    python pipelines/warm_up_bag_tests.py

Seeds: 0 to 4 (--seeds gives their number). Writes nothing. Prints, for each test, mean and worst measure of
the trainings: the test AUC, of an invariance test the fraction of right calls.
"""

import argparse
from itertools import product

from wsi_mil.execution import ExecutionSpec, run_jobs, stopped_at_the_end
from wsi_mil.io.tables import markdown_table
from wsi_mil.logs import setup_console
from wsi_mil.robustness.audit.bag_test_results import BagTestResult, BagTestSummary
from wsi_mil.robustness.audit.bag_test_run import TRAINING, BagTestJob, run_bag_test
from wsi_mil.robustness.audit.bag_tests import bag_test_names
from wsi_mil.training.spec import WarmUp

METHODS = ("focus_mil", "mi_net", "causal_mil")
WARM_UPS: tuple[WarmUp, ...] = ("none", "smooth_max")


def cell(results: list[BagTestResult]) -> str:
    """Return mean / worst of the trainings of a test, and how many learned their training bags if not all."""
    found = BagTestSummary(results[0].test, tuple(results))
    learned = "" if found.learned == len(results) else f" ({found.learned} of {len(results)} learned)"
    return f"{found.test_auc.mean:.3f} / {found.worst:.3f}{learned}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each cell")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--tests", nargs="+", default=bag_test_names())
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    setup_console()
    columns = list(product(arguments.methods, WARM_UPS))
    jobs = [
        BagTestJob(method, test, seed, training=TRAINING.model_copy(update={"warm_up": warm_up}))
        for test in arguments.tests
        for method, warm_up in columns
        for seed in range(arguments.seeds)
    ]
    results = run_jobs(run_bag_test, jobs, spec=ExecutionSpec(workers=arguments.workers))
    with stopped_at_the_end(results):
        found = list(results)
    rows, size = [], arguments.seeds
    for number, test in enumerate(arguments.tests):
        first = number * len(columns)
        parts = [found[size * n : size * (n + 1)] for n in range(first, first + len(columns))]
        rows.append([test, *map(cell, parts)])
    print(markdown_table(["test", *(f"{method}, {warm_up}" for method, warm_up in columns)], rows))


if __name__ == "__main__":
    main()
