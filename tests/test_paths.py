"""Names from outside become paths below their root or are refused; no other code joins them."""

import ast
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import wsi_mil
from wsi_mil.errors import DataError
from wsi_mil.paths import below, child, problem_of
from wsi_mil.slides.ids import slide_id_text

HOSTILE = ("", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "C:/x", "C:x", "..\\x", "a\0b")
parts = st.sampled_from(["..", ".", "", "a", "b.zarr", "/", "\\", "C:", "\0", "\n", "é", "~", " "])


@pytest.mark.parametrize("name", [*HOSTILE, "a\nb", "x" * 300, "/".join("y" * 200 for _ in range(30))])
def test_what_is_no_path_below_the_root_is_refused(name: str, tmp_path: Path) -> None:
    for function in (below, child):
        with pytest.raises(DataError, match=r"labels\.csv: slide id"):
            function(tmp_path, name, "labels.csv: slide id")


@given(st.lists(parts, max_size=6).map("/".join) | st.lists(parts, max_size=6).map("".join) | st.text())
@example("a/b.zarr")
def test_a_path_stays_below_its_root_or_is_refused(name: str) -> None:
    root = Path("/runs/demo/slides")
    try:
        path = below(root, name)
    except DataError:
        assert problem_of(name)
        return
    assert os.path.normpath(path).startswith("/runs/demo/slides/")
    assert path.relative_to(root).as_posix() == name


def test_a_link_out_of_the_root_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / "inner").mkdir(parents=True)
    outside.mkdir()
    (run / "out").symlink_to(outside)
    (run / "in").symlink_to(run / "inner")
    (tmp_path / "other_name").symlink_to(run)
    for name in ("out", "out/x"):
        with pytest.raises(DataError, match=r"is a link to .*outside"):
            below(run, name)
    assert below(run, "in/x") == run / "in" / "x"
    assert below(tmp_path / "other_name", "inner/x").parent.is_dir()  # the root itself may be a link


def test_one_component_where_one_is_expected(tmp_path: Path) -> None:
    assert child(tmp_path, "focus_mil") == tmp_path / "focus_mil"
    with pytest.raises(DataError, match="holds '/': expected one name"):
        child(tmp_path, "a/b", "model name")


@given(st.text() | st.binary(max_size=300).map(os.fsdecode))
def test_the_id_of_any_file_name_is_text_and_a_path_below_a_folder(name: str) -> None:
    found = slide_id_text(name.replace("/", ""))
    assert bool(found.encode()) == bool(name.replace("/", ""))
    assert slide_id_text(found) == found
    assert problem_of(found) in (
        "",
        "is empty",
        "has the part '.'",
        "has the part '..'",
        "is an absolute path",
    )


# ---- no other code joins names: a rule on the source

JOINS = {"joinpath", "with_name", "with_stem"}
FOLDERS = {"path", "folder", "root", "run", "out", "base", "aside", "whole", "parent", "here", "cache"}
ALLOWED = {
    ("paths.py", "name"): "the function itself",
    ("config/loading.py", "f-string"): "names of configurations that ship with the package",
    ("evaluation/metrics_file.py", "changed[0]"): "text of a message",
    ("features/mapped.py", "str"): "numbers of shards",
    ("features/store.py", "name"): "a loop over two literals",
    ("interop/layouts/torchmil.py", "name"): "a loop over literals",
    ("interop/layouts/trident.py", "tiling"): "numbers of the tile grid",
    ("io/files.py", "f-string"): "the name of a file that was made by this rule, and the host's",
    ("run/folder.py", "f-string"): "fold{number}",
    ("run/lock.py", "f-string"): "a literal and a random number",
    ("run/folder.py", "_folder_name"): "escapes all but word characters",
    ("slides/ids.py", "name"): "entries that the system lists",
    ("stages/evaluate.py", "'curves.png' if task.kind == 'detection' else 'predictions.csv'"): "literals",
    ("stages/heatmap.py", "path"): "files that this stage has drawn",
    ("synthetic/cohort.py", "f-string"): "ids that the program makes",
}
"""(file, what is joined): why it is no name from outside."""


def is_folder(node: ast.expr) -> bool:
    """Whether an expression is a path, as far as its text says."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        text = isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
        return text or isinstance(node.right, ast.JoinedStr) or is_folder(node.left)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in {"below", "child", "Path", "poison_folder"}
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in FOLDERS or name.endswith(("_path", "_folder", "_dir"))


def joined_names(path: Path) -> list[tuple[int, str]]:
    """Return (line, what is joined) wherever a path is joined with something that is no literal."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            literal = isinstance(node.right, ast.Constant) or ast.unparse(node.right).split(".")[-1].isupper()
            if not literal and (is_folder(node.left) or isinstance(node.right, ast.JoinedStr)):
                found.append((node.lineno, what(node.right)))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in JOINS:
            found += [(node.lineno, what(part)) for part in node.args if not isinstance(part, ast.Constant)]
    return found


def what(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "f-string"
    if isinstance(node, ast.Call):
        return ast.unparse(node.func)
    return ast.unparse(node)


def test_no_other_code_joins_names_from_outside() -> None:
    package = Path(wsi_mil.__file__).parent
    wrong = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).as_posix()
        wrong += [
            f"{place}:{line} {name}" for line, name in joined_names(path) if (place, name) not in ALLOWED
        ]
    assert wrong == [], "use wsi_mil.paths.below or child, or give the reason in ALLOWED"


@pytest.mark.parametrize(
    "line",
    ['run.path / f"{name}.png"', "folder / name", "folder / a.name", "path.with_name(name)", "Path(a) / b"],
)
def test_the_rule_sees_a_joined_name(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"x = {line}\n")
    assert len(joined_names(tmp_path / "a.py")) == 1


# ---- nothing else removes files

REMOVES = {"unlink", "rmtree", "rmdir", "remove", "removedirs"}
OWN_FILES = {"io/files.py": "the one place", "run/lock.py": "the lock, which it has made"}


def removals(path: Path) -> list[int]:
    """Return the lines that remove a file or a folder by a function of the standard library."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in REMOVES:
            of_module = isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "shutil")
            if node.func.attr in ("unlink", "rmtree", "rmdir", "removedirs") or of_module:
                found.append(node.lineno)
    return found


def test_no_other_code_removes_files() -> None:
    package = Path(wsi_mil.__file__).parent
    found = {p.relative_to(package).as_posix(): removals(p) for p in package.rglob("*.py")}
    assert {place for place, lines in found.items() if lines} == set(OWN_FILES), "use wsi_mil.io.files.remove"
