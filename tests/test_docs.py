"""Documents run: docstring examples, and the Python blocks of README and docs, each file in one folder."""

import doctest
import importlib
import pkgutil
import re
import shutil
from pathlib import Path

import pytest

import wsi_mil

ROOT = Path(__file__).parents[1]
MODULES = [
    m.name
    for m in pkgutil.walk_packages(wsi_mil.__path__, "wsi_mil.")
    if not m.name.startswith("wsi_mil.testing")
]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"(<!-- exempt: (?P<reason>[^>]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL
)
WITH_PYTHON = [path for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"np": __import__("numpy"), "torch": __import__("torch")})
    assert result.failed == 0


@pytest.mark.parametrize("path", WITH_PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_run(
    path: Path, cohort: Path, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks see slides/ (small synthetic slides), labels.csv and a trained runs/demo where they run."""
    blocks = [m for m in BLOCK.finditer(path.read_text(encoding="utf-8")) if m["language"] == "python"]
    shutil.copytree(cohort / "slides", tmp_path / "slides")
    shutil.copy(cohort / "labels.csv", tmp_path / "labels.csv")
    shutil.copytree(small_run, tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        if block["reason"] is None:
            exec(compile(block["code"], str(path), "exec"), scope)


def test_commands_in_the_readme_exist() -> None:
    """Every `wsi-mil SUBCOMMAND` in the documents is a subcommand, every named file is there."""
    from wsi_mil.cli.subcommands import subcommand_names

    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            for subcommand in re.findall(r"^\s*wsi-mil ([a-z]+)", block["code"], re.MULTILINE):
                assert subcommand in subcommand_names(), f"{path.name}: wsi-mil {subcommand}"
            for file in re.findall(
                r"\b((?:configs|pipelines|docker|benchmarks)/[\w./-]+\.\w+)", block["code"]
            ):
                assert (ROOT / file).exists(), f"{path.name}: {file}"
        for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
            assert (path.parent / link.split("#")[0]).exists(), f"{path.name} links to {link}"
