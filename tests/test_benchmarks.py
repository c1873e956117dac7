"""The benchmarks still run: a little of each, and the counts that they print."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(name: str, *options: str) -> list[list[str]]:
    command = [sys.executable, f"benchmarks/{name}.py", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if line.startswith("|")
    ]


def test_froc() -> None:
    header, _, polygons, mask = run("froc", "--slides", "2", "--detections", "50")
    assert header[:4] == ["lesions from", "slides", "detections", "lesions"]
    assert polygons[:3] == ["polygons", "2", "100"]
    assert mask[:3] == ["mask", "2", "100"]
    assert int(polygons[3]) == int(mask[3]) >= 1


def test_geojson() -> None:
    _, _, packed, plain = run("geojson", "--tiles", "1500")
    assert (packed[1], plain[1], plain[-1]) == ("1,500", "1,500", "1500")
