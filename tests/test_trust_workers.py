"""Where Python looks for trusted code, and how trust reaches worker processes and Dask workers."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsi_mil.trust
from tests.marking_module import write_marking_module
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError
from wsi_mil.execution import ExecutionSpec, map_slides, run_jobs
from wsi_mil.trust import import_reference, trusted, with_trust

PACKAGE = Path(wsi_mil.__file__).parent
pytestmark = pytest.mark.usefixtures("mark")


def test_the_working_folder_is_on_the_path_during_the_import_only(mark: Path) -> None:
    here = mark.parent
    (here / "lab_part.py").write_text("value = 3\n")
    (here / "lab_main.py").write_text(
        "import sys, json\nfrom lab_part import value\npath, Mine = list(sys.path), json\n"
    )
    (here / "lab_broken.py").write_text("raise RuntimeError('broken')\n")
    write_marking_module(here, mark, "json", "decimal")
    before = list(sys.path)
    with trusted("lab_main", "lab_broken", "decimal", "lab_absent"):
        assert import_reference("lab_main:path", "reader")[-1] == str(here)
        assert import_reference("lab_main:Mine", "reader") is json, "not the file in the working folder"
        assert import_reference("decimal:Decimal", "reader").__module__ == "decimal"
        assert sys.path == before
        with pytest.raises(RuntimeError, match="broken"):
            import_reference("lab_broken:Mine", "reader")
        with pytest.raises(ConfigError, match="'lab_absent' cannot be imported"):
            import_reference("lab_absent:Mine", "reader")
    assert sys.path == before
    assert not mark.exists()


def test_an_installed_package_does_not_see_the_working_folder(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may try to import what is optional; a file of that name in the working folder is not it."""
    package = tmp_path / "site-packages" / "lab_installed.py"
    package.parent.mkdir()
    package.write_text("try:\n    import not_trusted_module\nexcept ImportError:\n    Mine = 5\n")
    monkeypatch.syspath_prepend(str(package.parent))
    with trusted("lab_installed"):
        assert import_reference("lab_installed:Mine", "reader") == 5
    assert not mark.exists()


SCRIPT = """
import sys
from multiprocessing import get_context

import click

from wsi_mil.cli import main


def work():
    process = get_context("spawn").Process(target=print, args=("done",))
    process.start()
    process.join()
    print("exit", process.exitcode)


if __name__ == "__main__":
    sys.modules["wsi_mil.cli.main"].load_subcommand = lambda name: click.Command("ls", callback=work)
    main(["ls"])
"""


OF_A_LIBRARY_USER = """
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.execution import ExecutionSpec, map_slides, run_jobs


def outcome(job):
    return Outcome(job.slide_id, "test", "done")


if __name__ == "__main__":
    jobs = [SlideSource(name, None, None) for name in "ab"]
    found = list(map_slides(outcome, jobs, stage="test", spec=ExecutionSpec(workers=2)))
    assert [one.status for one in found] == ["done"] * 2, found
    assert list(run_jobs(abs, [1, -2], spec=ExecutionSpec(workers=2))) == [1, 2]
    print("done\\nexit 0")
"""


@pytest.mark.parametrize("code", [SCRIPT, pytest.param(OF_A_LIBRARY_USER, marks=pytest.mark.slow)])
def test_worker_processes_do_not_import_modules_from_the_working_folder(
    code: str, mark: Path, tmp_path: Path
) -> None:
    """Python itself puts the working folder first for `-c`, with which multiprocessing starts a worker."""
    write_marking_module(mark.parent, mark, "json", "pickle", "tempfile", "runpy")
    script = tmp_path / "bin" / "wsi-mil.py"
    script.parent.mkdir()
    script.write_text(code)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, check=False
    )
    assert "done\nexit 0" in done.stdout, done.stderr
    assert not mark.exists()


LAB_JOB = """
from dataclasses import dataclass

from wsi_mil.contracts.outcome import Outcome


@dataclass(frozen=True)
class Job:
    slide_id: str

    def outcome(self) -> Outcome:
        from wsi_mil.trust import trusted_names

        return Outcome(self.slide_id, "test", "done", " ".join(sorted(trusted_names())))
"""


def run_lab_job(job: Any) -> Outcome:
    found = job.outcome()
    assert isinstance(found, Outcome)
    return found


@pytest.fixture
def lab_jobs(mark: Path) -> Iterator[list[Any]]:
    """Jobs of a class that lies in the working folder."""
    (mark.parent / "lab_job.py").write_text(LAB_JOB)
    wsi_mil.trust._FROM_WORKING_FOLDER.add("lab_absent")  # a worker that does not need it continues
    with trusted("lab_job", "more:Name"):
        kind = import_reference("lab_job:Job", "job")
        yield [kind("a"), kind("b")]
    sys.modules.pop("lab_job")


def test_a_function_takes_trust_and_modules_to_another_process(lab_jobs: list[Any], tmp_path: Path) -> None:
    """As to a Dask worker, which starts without the variable, in the same folder."""
    path = tmp_path / "work.pickle"
    path.write_bytes(pickle.dumps((with_trust(Outcome.__str__), lab_jobs[0])))
    code = "import pickle, sys; _, job = pickle.loads(open(sys.argv[1], 'rb').read()); print(job.outcome())"
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(PACKAGE.parent)}
    del environment["WSI_MIL_TRUST"]
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, env=environment, check=False
    )
    assert "reason='lab_job more:Name'" in done.stdout, done.stderr


@pytest.mark.slow
def test_worker_processes_trust_what_this_one_trusts(lab_jobs: list[Any]) -> None:
    found = list(map_slides(run_lab_job, lab_jobs, stage="test", spec=ExecutionSpec(workers=2)))
    assert [(one.status, one.reason) for one in found] == [("done", "lab_job more:Name")] * 2
    assert sorted(one.slide_id for one in found) == ["a", "b"]


@pytest.mark.slow
def test_dask_workers_trust_what_the_client_trusts(
    lab_jobs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers are started before, without the variable."""
    from distributed import LocalCluster

    names = os.environ.pop("WSI_MIL_TRUST")
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        os.environ["WSI_MIL_TRUST"] = names
        spec = ExecutionSpec(backend="dask", scheduler=cluster.scheduler_address)
        found = list(map_slides(run_lab_job, lab_jobs, stage="test", spec=spec))
        assert [(one.status, one.reason) for one in found] == [("done", "lab_job more:Name")] * 2
        names_there = run_jobs(class_name_of, lab_jobs, spec=spec)
        assert list(names_there) == ["lab_job.Job"] * 2


def class_name_of(job: Any) -> str:
    return f"{type(job).__module__}.{type(job).__name__}"
