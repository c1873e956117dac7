"""audit --aggregator: methods against bags whose shortcut is known, without any slide."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsi_mil.aggregators import AGGREGATORS
from wsi_mil.execution import ExecutionSpec, run_jobs
from wsi_mil.io.files import write_json, write_text
from wsi_mil.io.json import without_nan
from wsi_mil.logs import progress
from wsi_mil.report.audit_page import render_bag_audit
from wsi_mil.robustness.audit.bag_tests import (
    KEPT_SHARE,
    LEARNED_AUC,
    PASS_AUC,
    TESTS,
    TRAINING,
    BagTestJob,
    run_bag_test,
    summarise_bag_tests,
)

FORMAT = 1


def run_bag_audit(
    names: Sequence[str], out: Path | None, seeds: int = 1, execution: ExecutionSpec | None = None
) -> dict[str, Any]:
    """Return every test of every aggregator; with `out`, write audit.json and audit.html there.

    `names`: of the registry, or package.module:Class. Raises ConfigError for one that does not exist before anything is trained.
    """
    for name in names:
        AGGREGATORS.load(name)
    jobs = [BagTestJob(name, test, seed) for name in names for test in TESTS for seed in range(seeds)]
    execution = execution or ExecutionSpec()
    results = run_jobs(run_bag_test, jobs, spec=execution)
    rows = list(zip(jobs, progress(results, total=len(jobs), label="audit", unit="test"), strict=True))
    found: dict[str, Any] = without_nan(
        {
            "kind": "audit of aggregators",
            "format_version": FORMAT,
            "seeds": list(range(seeds)),
            "training": TRAINING.model_dump(mode="json"),
            "thresholds": {"learned_auc": LEARNED_AUC, "pass_auc": PASS_AUC, "kept_share": KEPT_SHARE},
            "aggregators": [
                summarise_bag_tests(name, [r for job, r in rows if job.name == name]) for name in names
            ],
        }
    )
    if out is not None:
        write_json(out / "audit.json", found)
        write_text(out / "audit.html", render_bag_audit(found))
    return found
