"""Fixtures that many folders of tests share: real data, a small synthetic cohort, a finished run.

Also the rule that puts tests into the tier `slow` (docs/testing.md).
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

import wsi_mil.trust
from tests import marking_module
from wsi_mil.execution import ExecutionSpec
from wsi_mil.synthetic import SynthSpec, write_cohort

# The tensors of tests are small, and tests run side by side: threads would only wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

# Hypothesis measures time, and tests on a busy machine are slow: that is no fault of an input.
settings.register_profile("any_speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_speed")

TESTS = Path(__file__).parent
# folders and files below tests/ that are slow as a whole
SLOW = (
    "pipelines",
    "test_benchmarks.py",
    "end_to_end/test_interop.py",
    "end_to_end/test_interruption.py",
    "end_to_end/test_real_slide.py",
    "end_to_end/test_refine.py",
    "end_to_end/test_robustness.py",
    "end_to_end/test_training_stage.py",
    "execution/test_dask.py",
    "execution/test_devices.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow as a whole: studies, benchmarks, interrupted runs, and all that needs a browser."""
    for item in items:
        place = item.path.relative_to(TESTS)
        if any(place.is_relative_to(name) for name in SLOW) or item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.slow)


Build = Callable[[Path], object]
BuildOnce = Callable[[str, Build], Path]
FinishedRun = Callable[..., Path]


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> BuildOnce:
    """A function `build_once(name, build)`: the folder `name`, which `build(folder)` fills once per test run.

    The processes of pytest-xdist share the folder: the first one that asks builds it, the others wait for the
    lock. Tests read the folder; they copy what they change.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def folder_named(name: str, build: Build) -> Path:
        folder, done = shared / "shared" / name, shared / "shared" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what a failed attempt left
                folder.mkdir()
                build(folder)
                done.touch()
        return folder

    return folder_named


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} names no folder: set it to run this test")
    return Path(value)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real slides and patches."""
    return _folder("WSI_MIL_TEST_DATA")


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """The folder with the outputs of published reference code."""
    return _folder("WSI_MIL_TEST_REFERENCE")


@pytest.fixture(scope="session")
def real_slide(data_folder: Path) -> Path:
    path = data_folder / "wsi" / "CMU-1-Small-Region.svs"
    if not path.exists():
        pytest.skip(f"{path.name} is not in WSI_MIL_TEST_DATA")
    return path


@pytest.fixture(scope="session", autouse=True)
def same_choice_everywhere() -> Iterator[None]:
    """What auto becomes for an encoder does not depend on the machine of the tests: fp32 and torch.

    Tests of the choice set both functions themselves; worker processes do not choose.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsi_mil.encoders.choice.openvino_version", lambda: None)
        patch.setattr("wsi_mil.encoders.choice.cpu_multiplies_bf16", lambda: False)
        yield


@pytest.fixture
def work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides are worked on in the process of the test: for tests that replace code with monkeypatch.

    Without it worker processes do the work, as for a user, and do not see the replacement.
    """
    monkeypatch.setattr("wsi_mil.execution.supervision.work_in_this_process", True)


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the module in the working folder writes when it is imported."""
    here = tmp_path / "here"
    here.mkdir()
    found = here / "imported"
    marking_module.write_marking_module(here, found)
    monkeypatch.chdir(here)
    monkeypatch.delenv("WSI_MIL_TRUST", raising=False)
    monkeypatch.setattr(wsi_mil.trust, "_FROM_WORKING_FOLDER", set())
    yield found
    sys.modules.pop(marking_module.NAME, None)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


SMALL = SynthSpec(
    pairs=9, centres=3, seed=3, width_px=(1500, 1700), height_px=(1250, 1350), itc_share=0, macro_share=0
)


@pytest.fixture(scope="session")
def cohort(build_once: BuildOnce) -> Path:
    """18 small slides with labels.csv and truth. Read only: copy what you change."""
    return build_once("cohort", lambda folder: write_cohort(folder, SMALL, ExecutionSpec(workers=1)))


@pytest.fixture(scope="session")
def quick_config(cohort: Path) -> dict[str, object]:
    """The settings of a pipeline that takes seconds on the small cohort; give it a `run`."""
    return {
        "seed": 1,
        "slides": {
            "folder": str(cohort / "slides"),
            "labels": str(cohort / "labels.csv"),
            "annotations": str(cohort / "annotations"),
        },
        "tiles": {"mpp": 1.0, "size_px": 64},
        "split": {"test_share": 0.33, "val_share": 0.33},
        "train": {"epochs": 12, "lr": 0.001},
        "evaluation": {"bootstrap": 50},
        "execution": {"workers": 1, "threads": 1},  # tests run side by side: more threads would wait
        "heatmaps": {"overlay_px": 300},
    }


@pytest.fixture(scope="session")
def finished_run(build_once: BuildOnce, quick_config: dict[str, object]) -> FinishedRun:
    """A function `finished_run(name, **changes)`: the folder of a finished run with these settings.

    A run is made once per test run; the folder that holds it is called `name`.
    """
    from wsi_mil.config.loading import parse_config
    from wsi_mil.stages import run_pipeline

    def folder_of(name: str, **changes: object) -> Path:
        def build(folder: Path) -> None:
            run_pipeline(parse_config({**quick_config, "run": str(folder / "demo"), **changes}))

        return build_once(name, build) / "demo"

    return folder_of


@pytest.fixture(scope="session")
def small_run(finished_run: FinishedRun) -> Path:
    """A finished run with a FocusMIL model, as `runs/demo` is one. Read only: copy what you change."""
    return finished_run("small_run", models={"focus_mil": {}})


@pytest.fixture
def run_with_features(small_run: Path, tmp_path: Path) -> Path:
    """A run whose features are made, and nothing trained yet. Yours to change."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("slides", "tissue"):
        shutil.copytree(small_run / name, run / name)
    for name in ("provenance.json", "config.yaml", "outcomes.csv"):
        shutil.copy(small_run / name, run / name)
    return run
