"""No code of the package swallows a traceback: a handler of all exceptions raises, logs or passes on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "wsi_mil"
EVERYTHING = {"Exception", "BaseException"}
TEXT_ONLY = {"str", "repr", "type", "isinstance", "one_line", "reason_of", "cause_of"}
"""Calls that take an exception and give something without its traceback."""


def names(node: ast.expr | None) -> set[str]:
    """The names in the type of a handler; a bare `except:` catches everything."""
    if node is None:
        return {"BaseException"}
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def passes_on(value: ast.expr, name: str | None) -> bool:
    """Whether a value is the exception itself, or a tuple that holds it."""
    if isinstance(value, ast.Tuple):
        return any(passes_on(part, name) for part in value.elts)
    return isinstance(value, ast.Name) and value.id == name


def keeps_the_traceback(handler: ast.ExceptHandler) -> bool:
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Assign | ast.Return) and node.value and passes_on(node.value, handler.name):
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            if called == "format_exc" or any(keyword.arg == "exc_info" for keyword in node.keywords):
                return True
            if called not in TEXT_ONLY and any(passes_on(value, handler.name) for value in node.args):
                return True
    return False


def swallowed(source: str) -> Iterator[int]:
    """The lines at which all exceptions are caught and their traceback is lost."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and names(node.type) & EVERYTHING:
            if not keeps_the_traceback(node):
                yield node.lineno
        elif isinstance(node, ast.Raise) and isinstance(node.cause, ast.Constant):
            yield node.lineno  # raise .. from None
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            yield from (node.lineno for kind in node.args if names(kind) & EVERYTHING)


def test_no_traceback_is_swallowed() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in swallowed(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("handler", "count"),
    [
        ("except Exception: pass", 1),
        ("except: return", 1),
        ("except (OSError, Exception) as error: reason = str(error)", 1),
        ("except Exception as error: print(type(error), reason_of(error))", 1),
        ("except Exception as error: raise E(str(error)) from None", 1),
        ("except Exception as error: raise E(str(error)) from error", 0),
        ("except BaseException: raise", 0),
        ("except Exception as error: self.error = error", 0),
        ("except Exception as error: rows.append((name, error))", 0),
        ("except Exception: log.debug('failed', exc_info=True)", 0),
        ("except Exception as error: return failed(name, error)", 0),
        ("except OSError: pass", 0),
    ],
)
def test_a_swallowed_traceback_is_found(handler: str, count: int) -> None:
    source = f"def f():\n    try:\n        g()\n    {handler}\n"
    assert len(list(swallowed(source))) == count
    assert list(swallowed("with suppress(Exception):\n    f()")) == [1]
    assert list(swallowed("with suppress(OSError):\n    f()")) == []
