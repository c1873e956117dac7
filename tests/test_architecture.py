"""The order of the folders, the price of an import, and configurations that load."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from wsi_mil.stages.table import STAGES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wsi_mil"
ORDER = [
    "units",
    "errors",
    "paths",
    "limits",
    "logs",
    "trust",
    "registry",
    "randomness",
    "io",
    "contracts",
    "raster",
    "outlines",
    "geojson",
    "stains",
    "execution",
    "tasks",
    "slides",
    "synthetic",
    "tissue",
    "tiles",
    "encoders",
    "features",
    "bags",
    "aggregators",
    "attention2d",
    "training",
    "scoring",
    "heatmaps",
    "evaluation",
    "refine",
    "robustness",
    "config",
    "run",
    "report",
    "interop",
    "stages",
    "experiments",
    "cli",
]
OUTSIDE = {"testing"}


def imported_folders(path: Path, package: Path = PACKAGE) -> set[str]:
    """First-level names of the package that a file imports, relative imports included."""
    here = path.relative_to(package.parent).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(here[: len(here) - node.level]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == package.name and len(parts) > 1 and parts[1] != "__version__":
                found.add(parts[1])
    return found


def violations(package: Path = PACKAGE) -> list[str]:
    wrong = []
    for path in sorted(package.rglob("*.py")):
        folder = path.relative_to(package).parts[0].removesuffix(".py")
        if folder in OUTSIDE or folder == "__init__":
            continue
        for other in imported_folders(path, package):
            if other != folder and (other in OUTSIDE or ORDER.index(other) >= ORDER.index(folder)):
                wrong.append(f"{path.relative_to(package)} imports {other}")
    return wrong


def test_imports_run_one_way() -> None:
    assert violations() == []


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """Modules of `modules` that a file imports, also in functions; not those for type checkers alone."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and child.module is not None and child.level == 0:
                full = {f"{child.module}.{alias.name}" for alias in child.names}
                found.update(full & modules or {child.module} & modules)
            elif isinstance(child, ast.Import):
                found.update({alias.name for alias in child.names} & modules)
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def import_graph(package: Path) -> dict[str, set[str]]:
    names = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    return {name: imported_modules(path, set(names)) - {name} for name, path in names.items()}


def test_no_import_cycle() -> None:
    TopologicalSorter(import_graph(PACKAGE)).prepare()  # raises CycleError, which names the cycle


def test_an_import_cycle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "wsi_mil"
    package.mkdir()
    (package / "a.py").write_text("from wsi_mil import b")
    (package / "b.py").write_text("def late():\n    from wsi_mil.a import name")
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(package)).prepare()


LONGEST_FILE = {"wsi_mil": 400, "pipelines": 150, "benchmarks": 400, "tests": 400}
LONGEST_FUNCTION = 60


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def long_functions(path: Path) -> list[str]:
    """Functions of a file, nested ones included, that are longer than LONGEST_FUNCTION lines."""
    return [
        f"{path.name}: {node.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]


@pytest.mark.parametrize("folder", LONGEST_FILE)
def test_files_and_functions_are_short(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert [str(path) for path in paths if lines_of(path) > LONGEST_FILE[folder]] == []
    if folder != "tests":  # a test of a whole run is long, and reads from top to bottom
        assert [name for path in paths for name in long_functions(path)] == []


def test_a_long_function_is_found(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text("def short():\n" + "    pass\n" * 59 + "def long():\n" + "    pass\n" * 60)
    assert long_functions(path) == ["long.py: long"]


def test_pytest_takes_no_class_of_the_package_for_a_test() -> None:
    classes = [
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name in classes if name.startswith("Test")] == []


def test_every_folder_is_in_the_order() -> None:
    folders = {p.stem for p in PACKAGE.iterdir() if not p.name.startswith("_") and p.name != "py.typed"}
    assert folders - OUTSIDE <= set(ORDER)


@pytest.mark.parametrize(
    "line",
    [
        "from wsi_mil.cli import main",
        "from ..cli import main",
        "from .. import cli",
        "import wsi_mil.report.page",
    ],
)
def test_an_import_against_the_order_is_found(tmp_path: Path, line: str) -> None:
    package = tmp_path / "wsi_mil"
    (package / "slides").mkdir(parents=True)
    (package / "slides" / "bad.py").write_text(line)
    assert len(violations(package)) == 1


def run_python(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True)


def test_importing_loads_nothing_heavy() -> None:
    for code in ("import wsi_mil", "from wsi_mil.cli.main import main"):
        found = run_python(f"import sys; {code}; print(*sys.modules)").stdout.split()
        assert not {"torch", "openslide", "dask", "zarr", "cv2", "timm", "numpy", "pydantic"} & set(found), (
            code
        )


def test_help_of_the_whole_loads_no_torch() -> None:
    code = """
import sys
from wsi_mil.cli.main import main
try:
    main(["--help"])
except SystemExit:
    print("torch" in sys.modules)
"""
    assert run_python(code).stdout.rstrip().endswith("False")


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES.values() if not stage.needs_torch])
def test_stages_without_a_network_load_no_torch(stage: str) -> None:
    """Torch takes longer to import than all of a small report to be made."""
    code = f"""
import sys
import wsi_mil.stages.pipeline, wsi_mil.stages.{stage}
from wsi_mil.report.section import model_parts, sections
sections(), model_parts()
print(*sys.modules)
"""
    found = run_python(code).stdout.split()
    assert f"wsi_mil.stages.{stage}" in found
    assert not {"torch", "timm", "sklearn", "matplotlib", "dask", "distributed"} & set(found)


LAZY = [
    "wsi_mil",
    *sorted(path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in PACKAGE.glob("*/*.pyi")),
]


@pytest.mark.parametrize("package", LAZY)
def test_every_lazy_name_exists(package: str) -> None:
    module = import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_a_name_that_does_not_exist_is_an_error() -> None:
    import wsi_mil

    with pytest.raises(AttributeError, match="No wsi_mil attribute nothing"):
        _ = wsi_mil.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_loads_and_says_how_to_run(path: Path) -> None:
    from wsi_mil.config import load_config

    text = path.read_text()
    header = text.split("\n\n")[0]
    assert header.startswith("# ")
    if "wsi-mil run" in header or "crc_cells.py" in header:
        assert load_config(path).run.parts[0] == "runs"
    else:  # a study with settings of its own: its pipeline reads them, and tests/pipelines try it
        named = re.search(r"python (pipelines/\w+\.py)", header)
        assert named is not None
        assert (ROOT / named[1]).exists()
        assert yaml.safe_load(text)["run"].startswith("runs/")


def test_no_file_of_the_repository_is_large() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    large = [
        name
        for name in tracked
        if name and (ROOT / name).is_file() and (ROOT / name).stat().st_size > 200_000
    ]
    assert large == []
