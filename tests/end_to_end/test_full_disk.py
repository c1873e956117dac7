"""Each stage under a limit of file size: it names its file, leaves nothing half-written, and resumes."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

UNLIKE = {"outcomes.csv", "provenance.json", "config.yaml", "report.html"}
"""Files that hold seconds or the name of the run folder."""
WRITES = {
    "tile": "previews",
    "extract": "slides",
    "train": "models",
    "score": "scores",
    "heatmap": "heatmaps",
    "evaluate": "evaluation",
    "report": "evaluation",  # the picture of the curves is written first
}


def run(stage: str, config: Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """`wsi-mil STAGE` in a process that can write no file of more than `limit` bytes."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", "from wsi_mil.cli.main import main; main()", stage, str(config)]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=restrict, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in UNLIKE]
    compared = [path for path in files if path.parent.name != "tensorboard"]  # its events hold times
    return {str(path.relative_to(folder)): path.read_bytes() for path in compared}


@pytest.mark.slow
def test_every_stage_names_its_file_and_resumes_to_the_same_bytes(
    tmp_path: Path, quick_config: dict[str, object]
) -> None:
    configs = {}
    for name in ("whole", "steps"):
        configs[name] = tmp_path / f"{name}.yaml"
        settings = {**quick_config, "run": str(tmp_path / name), "models": {"focus_mil": {}}}
        configs[name].write_text(yaml.safe_dump(settings))
    whole = run("run", configs["whole"])
    assert whole.returncode == 0, whole.stderr
    steps = tmp_path / "steps"
    for stage, writes in WRITES.items():
        # more than the lock, the configuration and provenance.json need, less than what the stage writes
        stopped = run(stage, configs["steps"], 4096)
        assert stopped.returncode == 1, (stage, stopped.stderr)
        named = re.findall(r"(\S+) cannot be written: File too large \(.* bytes free", stopped.stderr)
        parts = {Path(path).relative_to(steps).parts[0] for path in named}
        assert parts & {writes, "outcomes.csv"}, (stage, stopped.stderr)
        assert "Traceback" not in stopped.stderr
        assert not list(steps.rglob(".*.tmp"))
        assert not (steps / ".lock").exists()
        resumed = run(stage, configs["steps"])
        assert resumed.returncode == 0, (stage, resumed.stderr)
    assert contents(steps) == contents(tmp_path / "whole")
