"""Code that a file names is imported only if the user trusts it, wherever the file names it."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import wsi_mil.trust
from wsi_mil.aggregators.names import AGGREGATORS, METHODS, WRAPPERS
from wsi_mil.cli.main import cli
from wsi_mil.cli.subcommands import load_subcommand, subcommand_names
from wsi_mil.config import load_config
from wsi_mil.config.loading import parse_config
from wsi_mil.config.references import KEYS, references_in
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.encoders.names import ENCODERS, FAMILIES
from wsi_mil.errors import ConfigError, TrustError
from wsi_mil.evaluation.annotations.formats import FORMATS
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.interop.layouts import LAYOUTS
from wsi_mil.registry import OpenRegistry
from wsi_mil.report.section import MODEL_PARTS, SECTIONS
from wsi_mil.robustness.audit.bag_tests import BAG_TESTS
from wsi_mil.robustness.poison.kinds import POISONS
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.robustness.poison.study import read_poison_study
from wsi_mil.scoring import load_model
from wsi_mil.slides.opening import READERS
from wsi_mil.tasks import TASKS
from wsi_mil.trust import import_reference, trust, trusted, trusted_names, with_trust

REGISTRIES = [
    AGGREGATORS, METHODS, WRAPPERS, ENCODERS, FAMILIES, FORMATS, LAYOUTS, SECTIONS, MODEL_PARTS, BAG_TESTS,
    POISONS, READERS, TASKS,
]  # fmt: skip
EVIL = "not_trusted_module:Mine"
PACKAGE = Path(wsi_mil.__file__).parent


@pytest.fixture(autouse=True)
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the module in the working folder writes when it is imported."""
    here = tmp_path / "here"
    here.mkdir()
    found = here / "imported"
    code = f"open({str(found)!r}, 'w').close()\nclass Mine: pass\n"
    (here / "not_trusted_module.py").write_text(code)
    monkeypatch.chdir(here)
    monkeypatch.delenv("WSI_MIL_TRUST", raising=False)
    monkeypatch.setattr(wsi_mil.trust, "_FROM_WORKING_FOLDER", set())
    yield found
    sys.modules.pop("not_trusted_module", None)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: str(registry.kind))
def test_no_registry_imports_a_name_without_trust(registry: OpenRegistry, mark: Path) -> None:
    with pytest.raises(TrustError, match=f"{registry.kind} '{EVIL}' is code.*add --trust {EVIL}"):
        registry.load(EVIL)
    assert not mark.exists()
    with trusted(EVIL):
        assert registry.load(EVIL).__name__ == "Mine"
    assert mark.exists()


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, with the name that is called, such as `torch.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_these_are_all_registries() -> None:
    groups = {
        last.value
        for path in PACKAGE.rglob("*.py")
        for name, call in calls(ast.parse(path.read_text(encoding="utf-8")))
        if name.split(".")[-1] in ("OpenRegistry", "FolderRegistry", "_Encoders") and call.args
        if isinstance(last := call.args[-1], ast.Constant)
    }
    assert groups == {registry.group for registry in REGISTRIES}


BUILT_IN = {"eval", "exec", "compile", "__import__"}
RUNS_CODE = {
    "import_module", "exec_module", "run_path", "run_module", "loads", "Unpickler", "read_pickle",
    "unsafe_load", "full_load", "literal_eval",
}  # fmt: skip
KNOWN = {
    "trust.py": {"import_module"},
    "registry.py": {"import_module"},  # places in this package
    "evaluation/table.py": {"import_module"},  # the modules of a folder of this package
    "stages/table.py": {"import_module"},
    "cli/subcommands/__init__.py": {"import_module", "literal_eval"},
}


def runs_code(text: str) -> set[str]:
    """Return what a file calls that can run code which is not written in it."""
    found = set()
    for name, call in calls(ast.parse(text)):
        options = {option.arg: ast.unparse(option.value) for option in call.keywords}
        last = name.split(".")[-1]
        if name in BUILT_IN or (last in RUNS_CODE and name != "json.loads"):
            found.add(last)
        if name == "torch.load" and options.get("weights_only") != "True":
            found.add(name)
        if name == "np.load" and options.get("allow_pickle") != "False":
            found.add(name)
        if name == "yaml.load" and ast.unparse(call.args[1]) != "_Loader":
            found.add(name)
        if "trust_remote_code" in options or "shell" in options:
            found.add("trust_remote_code or shell")
    return found


def test_no_other_file_runs_code_that_it_does_not_hold() -> None:
    found = {
        str(path.relative_to(PACKAGE)): hits
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "testing"
        if (hits := runs_code(path.read_text(encoding="utf-8")))
    }
    assert found == KNOWN


@pytest.mark.parametrize(
    "line",
    ["import_module(name)", "torch.load(path)", "np.load(p)", "yaml.load(t, yaml.Loader)", "pickle.loads(b)",
     "eval(text)", "torch.load(p, weights_only=False)", "load(name, trust_remote_code=True)"],
)  # fmt: skip
def test_a_call_that_runs_code_is_found(line: str) -> None:
    assert runs_code(line)


def with_value(key: str) -> dict[str, Any]:
    values: dict[str, Any] = {"run": "run"}
    *parents, last = key.split("/")
    block = values
    for parent in parents:
        block = block.setdefault(parent, {})
    block[last] = EVIL
    return values


PLACES = [*("/".join(key) for key in KEYS), "models/mine/aggregator"]


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize("as_run_folder", [False, True])
def test_no_key_of_a_configuration_imports_code(
    key: str, as_run_folder: bool, tmp_path: Path, mark: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(with_value(key)))
    given = tmp_path if as_run_folder else path
    named = rf"^{path}: {key.replace('/', '.')}={EVIL} is code.*--trust {EVIL} .*WSI_MIL_TRUST={EVIL}\)$"
    with pytest.raises(TrustError, match=named):
        load_config(given)
    refused = call("run", given, "--dry-run")
    assert isinstance(refused.exception, TrustError)
    assert not mark.exists()
    with trusted("not_trusted_module"):
        load_config(given)


def test_the_name_of_a_model_is_a_name_of_code_too(tmp_path: Path, mark: Path) -> None:
    with pytest.raises(TrustError, match=f"models.{EVIL}.aggregator={EVIL}"):
        parse_config({"run": str(tmp_path), "models": {EVIL: {}}})
    assert not mark.exists()


def test_every_key_that_names_a_registry_is_known() -> None:
    """A key whose description or record names `package.module:Name` is one of KEYS."""
    values = {block: {name: EVIL} for block, name in KEYS}
    assert set(references_in({**values, "models": {}})) == {".".join(key) for key in KEYS}
    families = {"encoder": {"name": "timm:resnet18"}}
    assert references_in(families) == {}, "family:model is no code"
    assert references_in({"encoder": 3, "models": ["a"], "train": None}) == {}, "wrong values come later"


def _poison(path: Path) -> object:
    path.write_text(
        json.dumps({"kind": "poison study", "format_version": 1, "poison": {"kind": EVIL}, "models": []})
    )
    return read_poison_study(path)


def _card(path: Path, *keys: str) -> object:
    found: dict[str, Any] = {"kind": "wsi_mil model", "format_version": 3, "name": "mine"}
    block = found
    for key in keys[:-1]:
        block = block.setdefault(key, {})
    block[keys[-1]] = EVIL
    (path.parent / "model.json").write_text(json.dumps(found))
    return load_model(path.parent)


OTHER_FILES: dict[str, Callable[[Path], object]] = {
    "poison.kind": _poison,
    "training.spec.aggregator": lambda path: _card(path, "training", "spec", "aggregator"),
    "task.kind": lambda path: _card(path, "task", "kind"),
    "encoder.name": lambda path: _card(path, "encoder", "name"),
    "training.spec.aggregator=": lambda path: _card(path, "name"),  # the model's name, where none is given
}


@pytest.mark.parametrize("key", OTHER_FILES)
def test_no_json_file_imports_code(key: str, tmp_path: Path, mark: Path) -> None:
    with pytest.raises(TrustError, match=rf"\.json: {key.rstrip('=')}={EVIL} is code.*--trust {EVIL}"):
        OTHER_FILES[key](tmp_path / "poison.json")
    assert not mark.exists()


def test_parameters_of_a_poison_do_not_import_it(mark: Path) -> None:
    with pytest.raises(TrustError):
        PoisonSpec(kind=EVIL, params={"period": 8.0})
    assert not mark.exists()


def test_what_is_typed_is_trusted_until_the_command_ends(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"run": str(tmp_path / "run"), "models": {"abmil": {}}}))
    assert "is code" not in call("run", path, "--dry-run", f"slides.reader={EVIL}").output
    assert trusted_names() == frozenset()
    path.write_text(yaml.safe_dump(with_value("slides/reader")))
    other = "models.a.aggregator=another_module:Mine"
    assert isinstance(call("run", path, "--dry-run", other).exception, TrustError), "this name only"
    same = call("run", path, "--dry-run", f"models={{a: {{aggregator: '{EVIL}'}}}}")
    assert not isinstance(same.exception, TrustError), "the same name in both"
    assert not isinstance(call("run", path, "--dry-run", "--trust", EVIL).exception, TrustError)
    assert not mark.exists(), "a dry run imports no reader"


@pytest.mark.parametrize("name", ["a b", "a:b:c", "os.system()", "../x", "a-b", ":Name", "module:", ""])
def test_a_wrong_form_of_trust_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected package\.module or package\.module:Name"):
        trust(name)


def test_trust_is_exact() -> None:
    with trusted("my_mil", "lab.readers:Mine"):
        assert trusted_names() == {"my_mil", "lab.readers:Mine"}
        for name in ("my_mil.models:Mine", "lab.readers:Other", "lab:readers", "my_mil2:Mine"):
            with pytest.raises(TrustError):
                import_reference(name, "reader")
        with trusted("other"):
            assert len(trusted_names()) == 3
    assert trusted_names() == frozenset()


@pytest.mark.parametrize("name", subcommand_names())
def test_subcommands_that_read_names_have_the_option(name: str) -> None:
    """Those without it read neither a configuration nor a model."""
    options = {option for parameter in load_subcommand(name).params for option in parameter.opts}
    assert ("--trust" in options) == (name not in {"check", "import", "ls", "pull", "push", "synth"})


def test_the_working_folder_is_on_the_path_during_the_import_only(mark: Path) -> None:
    here = mark.parent
    (here / "lab_part.py").write_text("value = 3\n")
    (here / "lab_main.py").write_text(
        "import sys, json\nfrom lab_part import value\npath, Mine = list(sys.path), json\n"
    )
    (here / "lab_broken.py").write_text("raise RuntimeError('broken')\n")
    (here / "json.py").write_text((here / "not_trusted_module.py").read_text())
    (here / "decimal.py").write_text((here / "not_trusted_module.py").read_text())
    before = list(sys.path)
    with trusted("lab_main", "lab_broken", "decimal", "lab_absent"):
        assert import_reference("lab_main:path", "reader")[-1] == str(here)
        assert import_reference("lab_main:Mine", "reader") is json, "not the file in the working folder"
        assert import_reference("decimal:Decimal", "reader").__module__ == "decimal"
        assert sys.path == before
        with pytest.raises(RuntimeError, match="broken"):
            import_reference("lab_broken:Mine", "reader")
        with pytest.raises(ConfigError, match="'lab_absent' cannot be imported"):
            import_reference("lab_absent:Mine", "reader")
    assert sys.path == before
    assert not mark.exists()


def test_an_installed_package_does_not_see_the_working_folder(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may try to import what is optional; a file of that name in the working folder is not it."""
    package = tmp_path / "site-packages" / "lab_installed.py"
    package.parent.mkdir()
    package.write_text("try:\n    import not_trusted_module\nexcept ImportError:\n    Mine = 5\n")
    monkeypatch.syspath_prepend(str(package.parent))
    with trusted("lab_installed"):
        assert import_reference("lab_installed:Mine", "reader") == 5
    assert not mark.exists()


SCRIPT = """
import sys
from multiprocessing import get_context

import click

from wsi_mil.cli import main


def work():
    process = get_context("spawn").Process(target=print, args=("done",))
    process.start()
    process.join()
    print("exit", process.exitcode)


if __name__ == "__main__":
    sys.modules["wsi_mil.cli.main"].load_subcommand = lambda name: click.Command("ls", callback=work)
    main(["ls"])
"""


def test_worker_processes_do_not_import_modules_from_the_working_folder(mark: Path, tmp_path: Path) -> None:
    """Python itself puts the working folder first for `-c`, with which multiprocessing starts a worker."""
    for name in ("json", "pickle", "tempfile", "runpy"):
        shutil.copy(mark.parent / "not_trusted_module.py", mark.parent / f"{name}.py")
    script = tmp_path / "bin" / "wsi-mil.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, check=False
    )
    assert "done\nexit 0" in done.stdout, done.stderr
    assert not mark.exists()


LAB_JOB = """
from dataclasses import dataclass

from wsi_mil.contracts.outcome import Outcome


@dataclass(frozen=True)
class Job:
    slide_id: str

    def outcome(self) -> Outcome:
        from wsi_mil.trust import trusted_names

        return Outcome(self.slide_id, "test", "done", " ".join(sorted(trusted_names())))
"""


def run_lab_job(job: Any) -> Outcome:
    found = job.outcome()
    assert isinstance(found, Outcome)
    return found


@pytest.fixture
def lab_jobs(mark: Path) -> Iterator[list[Any]]:
    """Jobs of a class that lies in the working folder."""
    (mark.parent / "lab_job.py").write_text(LAB_JOB)
    wsi_mil.trust._FROM_WORKING_FOLDER.add("lab_absent")  # a worker that does not need it continues
    with trusted("lab_job", "more:Name"):
        kind = import_reference("lab_job:Job", "job")
        yield [kind("a"), kind("b")]
    sys.modules.pop("lab_job")


def test_a_function_takes_trust_and_modules_to_another_process(lab_jobs: list[Any], tmp_path: Path) -> None:
    """As to a Dask worker, which starts without the variable, in the same folder."""
    path = tmp_path / "work.pickle"
    path.write_bytes(pickle.dumps((with_trust(Outcome.__str__), lab_jobs[0])))
    code = "import pickle, sys; _, job = pickle.loads(open(sys.argv[1], 'rb').read()); print(job.outcome())"
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(PACKAGE.parent)}
    del environment["WSI_MIL_TRUST"]
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, env=environment, check=False
    )
    assert "reason='lab_job more:Name'" in done.stdout, done.stderr


@pytest.mark.slow
def test_worker_processes_trust_what_this_one_trusts(lab_jobs: list[Any]) -> None:
    found = list(map_slides(run_lab_job, lab_jobs, stage="test", spec=ExecutionSpec(workers=2)))
    assert [(one.status, one.reason) for one in found] == [("done", "lab_job more:Name")] * 2
    assert sorted(one.slide_id for one in found) == ["a", "b"]
