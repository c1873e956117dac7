"""Tests of the tests: each one can fail by an assertion of its own or of a helper that it calls."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PASSES_BY_NOT_RAISING = {
    "test_no_import_cycle",
    "test_the_owner_shows_that_it_lives",
    "test_tiles_of_the_right_scale_pass",
}
CHECKS = ("raises", "warns", "fail", "check_call")  # pytest.raises, subprocess.check_call ..
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def called_names(function: Function) -> set[str]:
    """The last part of the name of everything that a function calls, or passes on as an argument."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            for part in (node.func, *node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(part, ast.Attribute | ast.Name):
                    names.add(part.attr if isinstance(part, ast.Attribute) else part.id)
    return names


def checks_itself(function: Function) -> bool:
    if any(isinstance(node, ast.Assert) for node in ast.walk(function)):
        return True
    return any(name in CHECKS or name.startswith("assert_") for name in called_names(function))


def without_a_check(sources: dict[str, str]) -> list[str]:
    """The tests that neither check anything nor call a function of these sources that does."""
    everything = [(place, found) for place, source in sources.items() for found in functions(source)]
    checking = {found.name for _, found in everything if checks_itself(found)}
    for _ in range(3):  # helpers that call helpers
        checking |= {found.name for _, found in everything if called_names(found) & checking}
    return [
        f"{place}: {found.name}"
        for place, found in everything
        if found.name.startswith("test_") and found.name not in checking
    ]


def test_every_test_checks_something() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "wsi_mil" / "testing").rglob("*.py")]
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(files)}
    found = {name.partition(": ")[2] for name in without_a_check(sources)}
    assert found == PASSES_BY_NOT_RAISING


@pytest.mark.parametrize(
    ("body", "checks"),
    [
        ("assert 1", True),
        ("with pytest.raises(ValueError): f()", True),
        ("np.testing.assert_allclose(a, b)", True),
        ("helper(a)", True),
        ("f()", False),
        ("if f(): pass", False),
    ],
)
def test_a_test_without_a_check_is_found(body: str, checks: bool) -> None:
    source = f"def helper(a):\n    assert a\ndef test_it():\n    {body}\n"
    assert without_a_check({"a.py": source}) == ([] if checks else ["a.py: test_it"])
