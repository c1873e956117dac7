"""CSV, tables as text, pictures and JSON are written and read in `wsi_mil/io` alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("wsi_mil", "benchmarks")
ALLOWED = {
    "wsi_mil/training/checkpoint.py": "an unfinished training has infinite values, which JSON forbids",
    "benchmarks/peer.py": "runs in the environment of another tool, without wsi_mil",
    "wsi_mil/heatmaps/lettering.py": "draws letters; reads and writes no file",
    "wsi_mil/heatmaps/overlay.py": "draws lines; reads and writes no file",
    "wsi_mil/testing/qupath.py": "a strict parser: it refuses NaN and repeated keys as QuPath does",
}
MODULES = {"csv": "io.tables", "json": "io.json", "PIL": "io.images"}
FUNCTIONS = {
    **dict.fromkeys(("imencode", "imdecode", "imwrite", "imread"), "io.images"),
    **dict.fromkeys(("savetxt", "to_csv", "ljust", "rjust"), "io.tables"),
}


def idioms(source: str) -> Iterator[str]:
    """Yield `line: what is written by hand (where it belongs)` for each idiom in Python source."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    filled = [node.value for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)]
    in_messages = {id(node) for value in filled for node in ast.walk(value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in [alias.name.partition(".")[0] for alias in node.names]:
                if name in MODULES:
                    yield f"{node.lineno}: import {name} ({MODULES[name]})"
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            name = node.module.partition(".")[0]
            if name in MODULES:
                yield f"{node.lineno}: from {name} import ({MODULES[name]})"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if node.func.attr in FUNCTIONS and ast.unparse(owner) not in ("tables", "images"):
                yield f"{node.lineno}: {node.func.attr} ({FUNCTIONS[node.func.attr]})"
            joins = (
                node.func.attr == "join" and isinstance(owner, ast.Constant) and id(node) not in in_messages
            )
            if joins and owner.value in (",", " | "):
                yield f"{node.lineno}: cells joined by {owner.value!r} (io.tables)"
        elif isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            if re.match(r"f'.?[<>^]", ast.unparse(node.format_spec)):
                yield f"{node.lineno}: a cell padded by hand (io.tables)"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            markdown = re.match(r"\n*\| ", node.value) or "|---" in node.value
            if markdown:
                yield f"{node.lineno}: a Markdown table by hand (io.tables)"


@pytest.mark.parametrize(
    "line",
    [
        "import csv",
        "from json import dumps",
        "from PIL import Image",
        "cv2.imencode('.jpg', picture)",
        "np.savetxt(path, values)",
        "name.ljust(3)",
        "print(f'{name:<14}')",
        "print(f'{name:>{width}}')",
        "text = ','.join(cells)",
        "text = '| ' + ' | '.join(cells)",
        "print('| a | b |\\n|---|---|')",
        "print(f'| {name} | {value} |')",
    ],
)
def test_an_idiom_is_found(line: str) -> None:
    assert list(idioms(line))


@pytest.mark.parametrize(
    "line",
    [
        "from wsi_mil.io.json import write_json",
        "'''A | B, |---|'''",
        "print(f'{value:.3f} of {count:,}')",
        "text = ', '.join(names)",
        "found = masks | other",
        "message = f'expected three cells, found {\",\".join(row)!r}'",
    ],
)
def test_other_code_is_not_taken_for_an_idiom(line: str) -> None:
    assert not list(idioms(line))


def test_idioms_are_written_in_io_alone() -> None:
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith("wsi_mil/io/") and name not in ALLOWED:
                found += [f"{name}:{text}" for text in idioms(path.read_text(encoding="utf-8"))]
    assert found == []


def test_every_exception_is_needed() -> None:
    for name in ALLOWED:
        assert list(idioms((ROOT / name).read_text(encoding="utf-8"))), f"{name} needs no exception any more"
