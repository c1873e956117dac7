"""Who runs jobs stops their workers: every generator of results is closed, also after an exception."""

import ast
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsi_mil.execution import ExecutionSpec, run_jobs
from wsi_mil.io.files import write_text

ROOT = Path(__file__).parents[2]
RESULTS = {"map_slides", "map_on_devices", "run_jobs", "supervise", "map_on_dask", "run_on_dask"}
KILLERS = {"without_killers", "without_killers_of", "without_unchanged"}
"""They close what their argument returns, and are themselves generators of results."""
CLOSE = {"stopped_at_the_end", "closing", "record_outcomes"}


def sources() -> list[Path]:
    return [
        path for folder in ("wsi_mil", "pipelines", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    ]


def name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@dataclass
class Uses:
    """How the functions of a file use generators of results. passing_on: functions that return them.
    left_open: lines."""

    passing_on: set[str]
    left_open: list[str]


def uses(tree: ast.Module, results: set[str]) -> Uses:
    """Return how a file uses the functions named in `results`."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = Uses(set(), [])

    def above(node: ast.AST) -> Iterator[ast.AST]:
        while node in parents:
            node = parents[node]
            yield node

    def fate(node: ast.AST) -> str:
        """Return what becomes of the value of an expression: "closed", "passed on", a variable, or ""."""
        used_up = False  # by another function, for example list
        for outer in above(node):
            if isinstance(outer, ast.Call) and outer.func != node:
                if name_of(outer.func) in CLOSE | KILLERS:
                    return "closed"
                used_up |= name_of(outer.func) != "partial"
            if isinstance(outer, ast.YieldFrom) or (isinstance(outer, ast.Return) and not used_up):
                return "passed on"
            if isinstance(outer, ast.Assign) and not used_up:
                return f"= {ast.unparse(outer.targets[0])}"
            if isinstance(outer, ast.stmt):
                return ""
        return ""

    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)]
    for node in names:
        if name_of(node) not in results | KILLERS or not isinstance(node.ctx, ast.Load):
            continue
        function = next((one for one in above(node) if isinstance(one, ast.FunctionDef)), None)
        fates = {fate(node)}
        if function is not None and next(iter(fates)).startswith("= "):
            variable = next(iter(fates))[2:]
            loads = [one for one in ast.walk(function) if isinstance(one, ast.Name) and one.id == variable]
            fates = {fate(one) for one in loads if isinstance(one.ctx, ast.Load)}
        if "passed on" in fates and function is not None:
            found.passing_on.add(function.name)
        if not fates & {"closed", "passed on"}:
            found.left_open.append(f"line {node.lineno}: {ast.unparse(parents[node])}")
    return found


def left_open() -> list[str]:
    texts = {path: path.read_text(encoding="utf-8") for path in sources()}
    results, before = set(RESULTS), set[str]()
    while results != before:
        before = set(results)
        named = [path for path, text in texts.items() if any(name in text for name in results | KILLERS)]
        found = {path: uses(ast.parse(texts[path]), results) for path in named}
        results |= {name for one in found.values() for name in one.passing_on}
    assert {"check_slides", "_extract_jobs"} <= results
    return [f"{path.relative_to(ROOT)}, {line}" for path, one in found.items() for line in one.left_open]


def test_every_generator_of_results_is_closed() -> None:
    assert not left_open()


@pytest.mark.parametrize(
    ("line", "is_open"),
    [
        ("list(map_slides(work, jobs))", True),
        ("found = list(map_slides(work, jobs))\n    return found", True),
        ("results = run_jobs(work, jobs)\n    for one in progress(results): print(one)", True),
        ("outcomes = without_killers(run, jobs, work)\n    list(outcomes)", True),
        ("results = execution.run_jobs(work, jobs)\n    with closing(results): list(results)", False),
        ("record_outcomes(run, map_slides(work, jobs))", False),
        ("return map_slides(work, jobs)", False),
        ("work = partial(map_slides, f)\n    record_outcomes(without_killers(run, jobs, work))", False),
    ],
)
def test_a_generator_that_is_left_open_is_found(line: str, is_open: bool) -> None:
    assert bool(uses(ast.parse(f"def f(run, jobs, work):\n    {line}"), RESULTS).left_open) == is_open


def work(job: Path) -> int:
    """Work for a minute, or fail as soon as the other job works."""
    other = job.with_name("slow")
    if job.name == "bad":
        while not other.exists():
            time.sleep(0.01)
        raise ZeroDivisionError("oh")
    write_text(other, str(os.getpid()))
    time.sleep(60)
    return 0


def test_workers_have_stopped_when_the_error_of_a_job_arrives(tmp_path: Path) -> None:
    jobs = [tmp_path / "bad", tmp_path / "slow"]
    with pytest.raises(ZeroDivisionError) as caught:
        list(run_jobs(work, jobs, spec=ExecutionSpec(workers=2)))
    assert caught.tb  # which keeps all generators alive
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "slow").read_text(encoding="utf-8")), 0)
