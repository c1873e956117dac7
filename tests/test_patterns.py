"""No regular expression of the package takes time that grows with the square of the text."""

import ast
import importlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUNCTIONS = {"compile", "match", "search", "sub", "subn", "fullmatch", "findall", "finditer", "split"}
OF_ARGUMENTS = {"wsi_mil/encoders/layouts.py: pattern"}
"""Calls whose pattern is an argument: it is a constant of the package, and is found there."""
SHORT, LONG = 750, 6_000
SUSPICIOUS_S = 0.002
"""A search of LONG characters takes 20 ms or more in square time, and less than this in linear time."""
CUBIC_S = 0.05
"""A search of SHORT characters that takes longer than this is not measured further."""
USUAL = " \t\n'\"=,.-_0aA<"


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def pattern_of(call: ast.Call) -> ast.expr | None:
    """The expression of the pattern of a call of re, or of pattern= of pydantic's Field."""
    function = call.func
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "re" and call.args:
        return call.args[0] if function.attr in FUNCTIONS else None
    return next((word.value for word in call.keywords if word.arg == "pattern"), None)


def only_anchored(path: Path, call: ast.Call) -> bool:
    """Whether a compiled constant is used by nothing but match and fullmatch."""
    text = path.read_text(encoding="utf-8")
    name = re.search(r"^(\w+) = re\.compile\(", text.splitlines()[call.lineno - 1])
    if name is None:
        return False
    files = (one.read_text(encoding="utf-8") for one in (ROOT / "wsi_mil").rglob("*.py"))
    uses = [use for file in files for use in re.findall(rf"\b{name[1]}\.(\w+)\(", file)]
    return bool(uses) and set(uses) <= {"match", "fullmatch"}


def patterns() -> dict[str, re.Pattern[str]]:
    found = {}
    for path in sorted((ROOT / "wsi_mil").rglob("*.py")):
        place = path.relative_to(ROOT)
        for call in calls(path):
            expression = pattern_of(call)
            if expression is None or f"{place}: {ast.unparse(expression)}" in OF_ARGUMENTS:
                continue
            module = importlib.import_module(".".join(place.with_suffix("").parts).removesuffix(".__init__"))
            names = {**vars(re), **vars(module)}
            compiled = call if ast.unparse(call.func) == "re.compile" else expression
            value = eval(ast.unparse(compiled), names)
            key = f"{place}:{call.lineno}"
            found[key] = value if isinstance(value, re.Pattern) else re.compile(value)
            if ast.unparse(call.func) in ("re.match", "re.fullmatch") or only_anchored(path, call):
                # a search from every place of the text would be a fault that no caller makes
                found[key] = re.compile(rf"\A(?:{found[key].pattern})", found[key].flags & ~re.UNICODE)
    return found


PATTERNS = patterns()


def hostile(pattern: re.Pattern[str]) -> list[str]:
    """Repeats of single characters, of pairs and of the words of a pattern."""
    letters = sorted({*USUAL, *(char for char in pattern.pattern if char not in "\\?*+()[]{}|^$")})[:40]
    words = re.findall(r"[\w<=]{3,30}", pattern.pattern)[:8]
    tails = [word + char for word in words for char in ("", " ", "=", "0")]
    pairs = itertools.permutations([char for char in letters if not char.isalpha() or char == "a"], 2)
    return [*letters, *map("".join, pairs), *tails]


def seconds(pattern: re.Pattern[str], text: str, times: int = 1) -> float:
    """The least processor time of a search: other processes of the machine do not count."""
    measured = []
    for _ in range(times):
        start = time.thread_time()
        for _ in pattern.finditer(text):
            pass
        measured.append(time.thread_time() - start)
    return min(measured)


def growth(pattern: re.Pattern[str]) -> str:
    """The text whose search takes more than linear time, "" where there is none."""
    for part in hostile(pattern):
        for end in ("", "!"):
            short, long = (part * (size // len(part)) + end for size in (SHORT, LONG))
            if seconds(pattern, short) > CUBIC_S:
                return part
            if seconds(pattern, long) < SUSPICIOUS_S:
                continue
            # linear: LONG / SHORT = 8 times as long, square: 64 times
            if seconds(pattern, long, times=3) > 20 * seconds(pattern, short, times=5):
                return part
    return ""


def test_the_patterns_are_found() -> None:
    assert len(PATTERNS) > 30
    assert any(key.startswith("wsi_mil/slides/mpp.py") for key in PATTERNS)


@pytest.mark.parametrize("bad", [r"\s+$", r"\w+x", r"=[^;]*;", r"(^|;)('*)(?=-*x)|-+x"])
def test_a_pattern_of_quadratic_time_is_noticed(bad: str) -> None:
    assert growth(re.compile(bad, re.MULTILINE))


@pytest.mark.parametrize("key", PATTERNS)
def test_no_pattern_takes_time_that_grows_with_the_square(key: str) -> None:
    part = growth(PATTERNS[key])
    assert not part, f"{key}: {PATTERNS[key].pattern!r} takes time that grows with the square of {part!r}"
