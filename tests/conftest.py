"""Fixtures: where real data lie, and a small synthetic cohort that many tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_mil.execution import ExecutionSpec
from wsi_mil.synthetic import SynthSpec, write_cohort

torch.set_num_threads(1)  # the tensors of tests are small: threads would only wait for each other


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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


SMALL = SynthSpec(
    pairs=9, centres=3, seed=3, width_px=(1500, 1700), height_px=(1250, 1350), itc_share=0, macro_share=0
)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 small slides with labels.csv and truth. Read only: copy what you change."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, SMALL, ExecutionSpec(workers=1))
    return folder


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
        "execution": {"workers": 1, "threads": 2},
        "heatmaps": {"overlay_px": 300},
    }


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, quick_config: dict[str, object]) -> Path:
    """A finished run with a FocusMIL model, as `runs/demo` is one. Read only: copy what you change."""
    from wsi_mil.config.loading import parse_config
    from wsi_mil.stages import run_pipeline

    run = tmp_path_factory.mktemp("small") / "demo"
    run_pipeline(parse_config({**quick_config, "run": str(run), "models": {"focus_mil": {}}}))
    return run
