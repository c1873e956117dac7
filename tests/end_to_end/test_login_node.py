"""A run that is submitted from a machine without GPU, and without the module of its encoder."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.execution.dask_workers import scheduler_and_workers

pytestmark = pytest.mark.slow

# Only the worker with a GPU can import it; it notes where it was built.
ENCODER = """
import os
from wsi_mil.encoders.names import ENCODERS
def Made(model, computation):
    with open(os.environ["BUILT"], "a") as file:
        file.write(os.environ["KIND_OF_WORKER"] + "\\n")
    return ENCODERS.load("texture")(model, computation)
"""
# Python imports it at the start of the processes of the GPU worker: its device cuda is the processor. All
# other processes get the error of a machine without GPU.
SITE = """
import sys
import torch
from wsi_mil.encoders import base
def cpu(name="auto"):
    return torch.device("cpu")
for module in [module for name, module in sys.modules.items() if name.startswith("wsi_mil.")]:
    if hasattr(module, "pick_device"):
        module.pick_device = cpu
"""


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A scheduler with a worker that has no GPU and one that has one."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    (tmp_path / "site" / "encoder_of_gpu_node.py").write_text(ENCODER)
    with scheduler_and_workers() as (spec, start):
        noted = {"BUILT": str(tmp_path / "built"), "CUDA_VISIBLE_DEVICES": ""}
        start(**noted, KIND_OF_WORKER="plain")
        path = os.pathsep.join([str(tmp_path / "site"), *sys.path])
        start("--resources", "GPU=1", **noted, KIND_OF_WORKER="gpu", PYTHONPATH=path)
        assert spec.scheduler is not None
        yield spec.scheduler


def call(folder: Path, *arguments: object) -> str:
    """Call `wsi-mil` on a machine without GPU and without the encoder; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", "from wsi_mil.cli import main; main()", *map(str, arguments)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_every_stage_ends_well(scheduler: str, quick_config: dict[str, Any], tmp_path: Path) -> None:
    run, config, built = tmp_path / "r", tmp_path / "c.yaml", tmp_path / "built"
    own = {"execution": {"backend": "dask", "device": "cuda"}, "models": {"focus_mil": {}}}
    config.write_text(yaml.safe_dump({**quick_config, **own, "run": str(run)}))
    where = [f"execution.scheduler={scheduler}", "encoder.name=encoder_of_gpu_node:Made"]
    call(tmp_path, "run", config, *where)
    assert json.loads((run / "evaluation" / "focus_mil" / "metrics.json").read_text())
    assert set(built.read_text().split()) == {"gpu"}
    trust = ["--trust", "execution.scheduler", "--trust", "encoder_of_gpu_node"]
    quick = ["refine.epochs=1", "refine.tiles_per_class=32", "refine.suspicious_above=0.9"]
    call(tmp_path, "refine", run, "--model", "focus_mil", *trust, *quick)
    assert list((run / "models").rglob("refiner.safetensors"))
    built.unlink()
    call(tmp_path, "audit", run, "--model", "focus_mil", "--slides", 1, *trust)
    checks = json.loads((run / "audit" / "focus_mil" / "audit.json").read_text())
    assert not checks["skipped"]
    assert set(built.read_text().split()) == {"gpu"}
    built.unlink()
    options = ["--aggregator", "mi_net", *trust, "train.epochs=1", "split.kind=kfold", "split.folds=2"]
    call(tmp_path, "poison", run, *options)
    assert list((run / "poison").glob("*/poison.json"))
    assert set(built.read_text().split()) == {"gpu"}
