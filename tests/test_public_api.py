"""The package as a user's type checker and a user's script see it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wsi_mil

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "samples" / "user_script.py"


def strict_mypy(path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Check a file as a user would: strict, without the settings of this repository."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}"]
    quiet = ["--follow-imports=silent", "--disable-error-code=import-untyped"]
    return subprocess.run(
        [*command, *quiet, str(path)], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
def test_a_user_script_passes_strict_mypy_and_none_of_its_values_is_any(
    tmp_path: Path, mypy_cache: Path
) -> None:
    assert strict_mypy(SCRIPT, mypy_cache).stdout.startswith("Success")
    values = ["model", "slide", "tissue", "tiles", "features", "scores", "raster"]
    line = "        out.write_bytes("
    text = SCRIPT.read_text().replace(line, "".join(f"        reveal_type({v})\n" for v in values) + line)
    revealed = tmp_path / "revealed.py"
    revealed.write_text(text)
    found = [row for row in strict_mypy(revealed, mypy_cache).stdout.splitlines() if "Revealed type" in row]
    assert len(found) == len(values)
    assert [row for row in found if "wsi_mil." not in row] == []


@pytest.mark.slow
def test_a_misspelt_name_and_a_wrong_type_are_errors(tmp_path: Path, mypy_cache: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import wsi_mil as wm\nwm.open_slides('a')\nwm.TileSpec(mpp='fine')\n")
    found = strict_mypy(wrong, mypy_cache).stdout
    assert 'no attribute "open_slides"' in found
    assert 'expected "float"' in found


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    names = [name for name in wsi_mil.__all__ if name != "__version__"]
    assert [name for name in names if not getattr(wsi_mil, name).__doc__] == []
    assert {
        "open_slide",
        "tile_slide",
        "encode_tiles",
        "Bag",
        "build_aggregator",
        "fit",
        "slide_metrics",
        "draw_overlay",
        "errors",
    } <= set(names)


@pytest.mark.slow
def test_the_user_script_runs(small_run: Path, cohort: Path, tmp_path: Path) -> None:
    slide = next(iter(sorted((cohort / "slides").rglob("*.tiff"))))
    model = small_run / "models" / "focus_mil" / "fold0"
    command = [sys.executable, str(SCRIPT), str(slide), str(model), str(tmp_path / "overlay.png")]
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "probability 0." in found.stdout or "probability 1." in found.stdout
    assert float(found.stdout.split("auc ")[1]) > 0.8
    assert (tmp_path / "overlay.png").stat().st_size > 1000
