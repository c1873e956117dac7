"""Code that a file names is imported only if the user trusts it, wherever the file names it."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import wsi_mil.trust
from tests.marking_module import EVIL
from wsi_mil.aggregators.names import AGGREGATORS, METHODS, WRAPPERS
from wsi_mil.cli.main import cli
from wsi_mil.cli.subcommands import load_subcommand, subcommand_names
from wsi_mil.config import load_config
from wsi_mil.config.loading import parse_config
from wsi_mil.config.references import KEYS, commands_in, references_in
from wsi_mil.encoders.names import ENCODERS, FAMILIES
from wsi_mil.errors import ConfigError, TrustError
from wsi_mil.evaluation.annotations.formats import FORMATS
from wsi_mil.execution.clusters import ClusterSpec
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
from wsi_mil.trust import import_reference, trust, trusted, trusted_names

REGISTRIES = [
    AGGREGATORS, METHODS, WRAPPERS, ENCODERS, FAMILIES, FORMATS, LAYOUTS, SECTIONS, MODEL_PARTS, BAG_TESTS,
    POISONS, READERS, TASKS,
]  # fmt: skip
PACKAGE = Path(wsi_mil.__file__).parent
pytestmark = pytest.mark.usefixtures("mark")


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
    "execution/processes.py": {"loads"},  # what the parent of the process has pickled
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
    named = rf"^{path}: {key.replace('/', '.')}={EVIL} is code.*--trust {EVIL} .*WSI_MIL_TRUST='{EVIL}'\)$"
    with pytest.raises(TrustError, match=named):
        load_config(given)
    refused = call("run", given, "--dry-run")
    assert isinstance(refused.exception, TrustError)
    assert not mark.exists()
    with trusted("not_trusted_module"):
        load_config(given)


COMMANDS = {
    "execution.scheduler": {"backend": "dask", "scheduler": "tcp://stranger:8786"},
    "execution.cluster.prologue": {"backend": "dask", "cluster": {"kind": "slurm", "prologue": ["rm -r ~"]}},
    "execution.cluster.directives": {"backend": "dask", "cluster": {"kind": "pbs", "directives": ["-o ~"]}},
    "execution.cluster.image": {"backend": "dask", "cluster": {"kind": "kubernetes", "image": "stranger"}},
}


@pytest.mark.parametrize("key", COMMANDS)
def test_no_file_says_what_other_machines_run(key: str, tmp_path: Path) -> None:
    path, values = tmp_path / "config.yaml", {"run": "run", "execution": COMMANDS[key]}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(TrustError, match=f"{path}: {key} decides which code runs.*add --trust {key} to"):
        load_config(path)
    with trusted(key):
        saved = load_config(path).model_dump(mode="json")
        assert commands_in(saved) == [key], "defaults need no trust"
    assert "is code" not in call("run", path, "--dry-run", "--trust", key).output
    typed = f"execution={json.dumps(COMMANDS[key])}"
    assert not isinstance(call("run", path, "--dry-run", typed).exception, TrustError)


@pytest.mark.parametrize("key", ["memory", "walltime", "queue", "account", "namespace"])
@pytest.mark.parametrize("text", ["1\nrm -r ~", "1; rm", "$(rm)", "1 --wrap=rm", "1\n"])
def test_no_text_of_a_cluster_adds_a_line_to_the_job_script(key: str, text: str) -> None:
    values = {"run": "r", "execution": {"backend": "dask", "cluster": {"kind": "slurm", key: text}}}
    with pytest.raises(ConfigError, match=f"execution.cluster.{key}"):
        parse_config(values)


def test_every_text_of_a_cluster_has_a_pattern_or_needs_trust() -> None:
    free = {
        name
        for name, field in ClusterSpec.model_fields.items()
        if "str" in str(field.annotation)
        if not any(getattr(rule, "pattern", None) for rule in field.metadata)
    }
    assert {f"execution.cluster.{name}" for name in free} == {key for key in COMMANDS if "cluster" in key}


def test_one_message_names_all_that_is_missing() -> None:
    values: dict[str, Any] = {"models": {"a": {"aggregator": "lab:A"}, "b": {"aggregator": "lab:B"}}}
    expected = (
        r"models.a.aggregator=lab:A, models.b.aggregator=lab:B is code.*add --trust lab:A --trust lab:B "
    )
    with pytest.raises(TrustError, match=expected):
        parse_config({**values, "run": "r"})


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
        json.dumps({"kind": "poison study", "format_version": 2, "poison": {"kind": EVIL}, "models": []})
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


def test_overrides_in_python_are_the_callers_words(tmp_path: Path) -> None:
    """As in pipelines/, whose overrides are typed."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(with_value("slides/reader")))
    with trusted():
        overrides = (f"slides.reader={EVIL}", "execution.backend=dask", "execution.scheduler=tcp://mine:1")
        assert load_config(path, overrides).slides.reader == EVIL
        assert trusted_names() == {EVIL, "execution.scheduler"}
    with pytest.raises(TrustError):
        load_config(path, ("slides.mpp=0.5",))


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
    assert ("--trust" in options) == (name not in {"import", "ls", "pull", "push", "synth"})
