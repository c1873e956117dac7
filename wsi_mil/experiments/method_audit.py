"""The audit of aggregators on generated bags with a known shortcut; it needs no slides."""

from collections.abc import Sequence
from pathlib import Path

from wsi_mil.aggregators import AGGREGATORS
from wsi_mil.execution import ExecutionSpec, run_jobs, stopped_at_the_end
from wsi_mil.io.files import write_text
from wsi_mil.io.json import write_json
from wsi_mil.logs import progress
from wsi_mil.report.audit_page import render_method_audit
from wsi_mil.robustness.audit.audit_file import refuse_other_audit
from wsi_mil.robustness.audit.bag_test_results import KIND, MethodAudit, summarise_bag_tests
from wsi_mil.robustness.audit.bag_test_run import TRAINING, BagTestJob, run_bag_test
from wsi_mil.robustness.audit.bag_tests import bag_test_names

SEEDS = 3
"""Trainings of each bag test: one can fail to learn by the draw of its weights alone."""


def run_method_audit(
    names: Sequence[str],
    out: Path | None,
    seeds: int = SEEDS,
    execution: ExecutionSpec | None = None,
    tests: Sequence[str] | None = None,
) -> MethodAudit:
    """Return every bag test of every aggregator; with `out`, write audit.json and audit.html there.

    names: of the registry, or package.module:Class. seeds: trainings of each test. tests: names of bag tests,
    None for all. Raises ConfigError for an unknown name before anything is trained.
    """
    for name in names:
        AGGREGATORS.load(name)
    if out is not None:
        refuse_other_audit(out, KIND, ("audit.html",))
    chosen = bag_test_names() if tests is None else tests
    jobs = [BagTestJob(name, test, seed) for name in names for test in chosen for seed in range(seeds)]
    results = run_jobs(run_bag_test, jobs, spec=execution or ExecutionSpec())
    with stopped_at_the_end(results):
        rows = list(zip(jobs, progress(results, total=len(jobs), label="audit", unit="test"), strict=True))
    found = MethodAudit(
        tuple(range(seeds)),
        TRAINING.model_dump(mode="json"),
        tuple(summarise_bag_tests(name, [row for job, row in rows if job.name == name]) for name in names),
    )
    if out is not None:
        write_json(out / "audit.json", found.as_json())
        write_text(out / "audit.html", render_method_audit(found))
    return found
