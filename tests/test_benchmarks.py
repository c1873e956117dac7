"""The benchmarks still run: a little of each, and the counts that they print."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(name: str, *options: str) -> list[list[str]]:
    command = [sys.executable, f"benchmarks/{name}.py", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in result.stdout.splitlines()
        if line.startswith("|")
    ]


def test_froc() -> None:
    header, _, polygons, mask = run("froc", "--slides", "2", "--detections", "50")
    assert header[:4] == ["lesions from", "slides", "detections", "lesions"]
    assert polygons[:3] == ["polygons", "2", "100"]
    assert mask[:3] == ["mask", "2", "100"]
    assert int(polygons[3]) == int(mask[3]) >= 1


def test_coverage() -> None:
    header, _, *rows = run("coverage", "--runs", "20", "--draws", "20")
    assert header[:2] == ["n+ / n-, true AUC", "bootstrap"]
    assert len(rows) == 5
    assert all(0 <= float(cell) <= 1 for row in rows for cell in row[1:])


def test_stains() -> None:
    header, _, first, *rest = run("stains", "--seeds", "1")
    assert header[:3] == ["kind", "auto: least", "auto: mean"]
    assert first[0] == "he"
    assert float(first[1]) == float(first[2]) > 0.8
    assert len(rest) == 17


def test_stains_peers() -> None:
    header, _, first, *_, last = run("stains_peers", "--seeds", "1")
    assert header[1:4] == [f"{rule}: least, mean" for rule in ("auto", "CLAM's rule", "HistomicsTK's rule")]
    assert first[0] == "he"
    assert float(first[1].split(", ")[0]) > 0.8
    assert last[0] == "slides below 0.9"
    assert int(last[1]) <= min(map(int, last[2:]))


def test_geojson() -> None:
    _, _, packed, plain = run("geojson", "--tiles", "1500")
    assert (packed[1], plain[1], plain[-1]) == ("1,500", "1,500", "1500")


def test_extraction(tmp_path: Path) -> None:
    """The features are those of plain OpenSlide and torch, and both limits are there."""
    run("extraction", "--quick", "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"jpeg_tiles, aligned", "openslide, unaligned", "raw tiles, libjpeg-turbo"} <= set(
        found["reading"]
    )
    [row] = found["extraction"]
    assert row["cosine_min"] > 0.9999
    assert row["difference_max"] < 1e-4
    assert row["ratio_to_limit"] == row["tiles_per_s"] / min(row["decode_limit"], row["forward_limit"])


def test_scaling() -> None:
    header, _, row = run("scaling", "--slides", "200")
    assert header[:2] == ["slides", "workers"]
    assert row[:2] == ["200", "2"]


def test_tissue() -> None:
    """Both slides hold tissue and tiles, whatever their size."""
    _, _, small, large = run("tissue", "--sides", "4096", "8192", "--mpps", "0.5", "0.5", "--rounds", "1")
    assert small[0].startswith("4096 x 4096 px")
    assert int(large[-1]) > 2 * int(small[-1]) > 0


def test_stores() -> None:
    """What is read is what was written (the benchmark asserts it)."""
    rows = run("stores", "--rows", "3000", "--dim", "16", "--rounds", "1")
    assert [row[0] for row in rows[2:4]] == ["write", "write, np.save"]
    assert len(rows) == 2 + 10


def test_spatial() -> None:
    rows = run("spatial", "--steps", "1", "--side", "16", "--batch", "4")
    assert [row[0] for row in rows[2:]] == [
        "plain (Grad-CAM)",
        "GAIN",
        "GAIN_ext, 10 % masks",
        "CAL",
        "loss-attention",
    ]
    assert rows[2][2] == "1.00"
