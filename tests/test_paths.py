"""Names from outside become paths below their root or are refused; no other code joins them."""

import ast
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import wsi_mil
from wsi_mil.errors import DataError
from wsi_mil.experiments.poison_store import of_poison, poison_folder, poisoned_store
from wsi_mil.paths import below, child, problem_of
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides.ids import existing_file, slide_id_text

POISON = PoisonSpec()
POISONED = f"{POISON.title}-{POISON.digest()[:6]}"
HOSTILE = ("", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "C:/x", "C:x", "..\\x", "a\0b")
parts = st.sampled_from(["..", ".", "", "a", "b.zarr", "/", "\\", "C:", "\0", "\n", "é", "~", " "])


@pytest.mark.parametrize("name", [*HOSTILE, "a\nb", "x" * 300, "/".join("y" * 200 for _ in range(30))])
def test_what_is_no_path_below_the_root_is_refused(name: str, tmp_path: Path) -> None:
    for function in (below, child):
        with pytest.raises(DataError, match=r"labels\.csv: slide id"):
            function(tmp_path, name, "labels.csv: slide id")


anything = st.text(st.characters())  # lone surrogates, too, which JSON can hold


@given(st.lists(parts, max_size=6).map("/".join) | st.lists(parts, max_size=6).map("".join) | anything)
@example("a/b.zarr")
@example("\ud800")
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


def test_no_link_in_a_run_leads_out_of_it(tmp_path: Path) -> None:
    """A run folder from somebody else may hold links to folders of the user, at any depth."""
    run, outside = RunFolder(tmp_path / "run"), tmp_path / "outside"
    places = {
        "slides": lambda: run.store("é"),
        "slides/s1.zarr": lambda: run.store("s1"),
        "tissue": lambda: run.tissue("s1"),
        "errors": lambda: run.error_file("s1"),
        "previews": lambda: run.preview("s1"),
        "models": lambda: run.model("m", 0),
        "models/m/fold0": lambda: run.model("m", 0),
        "scores/m": lambda: run.slide_scores("m"),
        "scores/m/tiles": lambda: run.tile_scores("m", "s1"),
        "heatmaps": lambda: run.heatmap("m", "s1", "png"),
        "class_heatmaps/m/tumour": lambda: run.class_heatmap("m", "tumour", "s1", "png"),
        "refined/m": lambda: run.refined("m", "s1"),
        "evaluation": lambda: run.evaluation("m"),
        "evaluation/m": lambda: run.evaluation("m"),
        "evaluation/m/detections": lambda: run.detections("m", "s1"),
        "evaluation/a_against_b.json": lambda: run.model_comparison("a", "b"),
        "evaluation/comparison.csv": lambda: run.comparison,
        "evaluation/curves.png": lambda: run.curves,
        "models/split.json": lambda: run.split,
        "report.html": lambda: run.report,
        "audit": lambda: run.audit("m"),
        "audit/m": lambda: run.audit("m"),
        "poison": lambda: poison_folder(run, POISON),
        f"poison/{POISONED}": lambda: poison_folder(run, POISON),
        f"poison/{POISONED}/slides": lambda: poisoned_store(run, POISON, "s1"),
        f"poison/{POISONED}/trainings": lambda: of_poison(run, POISON, "trainings/m_all_fold0.json"),
    }
    outside.mkdir()
    for place, path_of in places.items():
        path_of()
        link = run.path / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(outside)
        with pytest.raises(DataError, match=r"is a link to .*outside"):
            path_of()
        link.unlink()


def test_input_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "s1.xml").touch()
    (tmp_path / "annotations").mkdir()
    for name in ("s1.xml", "e\u0301.xml"):
        (tmp_path / "annotations" / name).symlink_to(tmp_path / "store" / "s1.xml")
    for name in ("s1.xml", "\u00e9.xml"):
        assert existing_file(tmp_path / "annotations", name).is_file()
        with pytest.raises(DataError, match="is a link to"):
            existing_file(tmp_path / "annotations", name, tmp_path / "annotations")
    with pytest.raises(DataError, match=r"has the part '\.\.'"):
        existing_file(tmp_path / "annotations", "../x")


def test_one_component_where_one_is_expected(tmp_path: Path) -> None:
    assert child(tmp_path, "focus_mil") == tmp_path / "focus_mil"
    with pytest.raises(DataError, match="holds '/': expected one name"):
        child(tmp_path, "a/b", "model name")


@given(anything | st.binary(max_size=300).map(os.fsdecode))
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
    assert (problem_of(found) == "is an absolute path") == found.startswith("/")


# ---- no other code joins names: a rule on the source

JOINS = {"joinpath", "with_name", "with_stem"}
FOLDERS = {"path", "folder", "root", "run", "out", "base", "aside", "whole", "parent", "here", "cache"}
ALLOWED = {
    ("cli/subcommands/__init__.py", "file"): "files of the package",
    ("io/files.py", "name"): "a loop over literals",
    ("paths.py", "name"): "the function itself",
    ("config/loading.py", "f-string"): "names of configurations that ship with the package",
    ("encoders/timing.py", "f-string"): "a digest",
    ("evaluation/metrics_file.py", "changed[0]"): "text of a message",
    ("features/mapped.py", "str"): "numbers of shards",
    ("features/store.py", "name"): "a loop over two literals",
    ("io/files.py", "f-string"): "the name of a file that was made by this rule, and the host's",
    ("run/lock.py", "f-string"): "a literal and a random number",
    ("stages/evaluate.py", "'curves.png' if task.kind == 'detection' else 'predictions.csv'"): "literals",
    ("stages/heatmap.py", "path"): "files that this stage has drawn",
    ("synthetic/cohort.py", "f-string"): "ids that the program makes",
}
"""(file, what is joined): why it is no name from outside."""
OF_RUN = {
    name
    for name, function in vars(RunFolder).items()
    if getattr(function, "__annotations__", {}).get("return") is Path
}
"""Methods that return a path."""


def is_folder(node: ast.expr) -> bool:
    """Whether an expression is a path, as far as its text says."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        text = isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
        return text or isinstance(node.right, ast.JoinedStr) or is_folder(node.left)
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func).split(".")[-1]
        return called in {"below", "child", "input_below", "Path", "poison_folder", *OF_RUN}
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
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("Path", "os.path.join"):
            found += [
                (node.lineno, what(part)) for part in node.args[1:] if not isinstance(part, ast.Constant)
            ]
            found += [(node.lineno, what(part)) for part in node.args[:1] if isinstance(part, ast.JoinedStr)]
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


def test_every_exception_is_needed() -> None:
    package = Path(wsi_mil.__file__).parent
    found = {(place, name) for place, _ in ALLOWED for _, name in joined_names(package / place)}
    assert {exception for exception in ALLOWED if exception not in found} == set()


@pytest.mark.parametrize(
    "line",
    [
        'run.path / f"{name}.png"',
        "folder / name",
        "folder / a.name",
        "path.with_name(name)",
        "Path(a) / b",
        "Path(a, b)",
        "os.path.join(a, b)",
        'Path(f"{a}/{b}")',
        "run.evaluation(a) / b",
    ],
)
def test_the_rule_sees_a_joined_name(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"x = {line}\n")
    assert len(joined_names(tmp_path / "a.py")) == 1


# ---- a folder below another one is no root


def unlimited_roots(path: Path) -> list[int]:
    """Return the lines where `below` or `child` gets a combined path as its root, and no `within`: a link at
    a folder of that path would be followed anywhere."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("below", "child"):
            within = len(node.args) > 3 or any(keyword.arg == "within" for keyword in node.keywords)
            if not within and not isinstance(node.args[0], ast.Name | ast.Attribute):
                found.append(node.lineno)
    return found


def test_links_are_compared_with_the_whole_folder() -> None:
    package = Path(wsi_mil.__file__).parent
    found = {p.relative_to(package).as_posix(): unlimited_roots(p) for p in package.rglob("*.py")}
    assert {place: lines for place, lines in found.items() if lines} == {}, "give `within`"


def test_the_rule_sees_a_root_below_another_folder(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('below(run / "audit", name)\nchild(run.evaluation(m), name, "x")\n')
    assert unlimited_roots(tmp_path / "a.py") == [1, 2]
    (tmp_path / "a.py").write_text('below(run, name)\nchild(run.path / "a", name, "x", run.path)\n')
    assert unlimited_roots(tmp_path / "a.py") == []


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
