"""Models, configurations and label tables from somebody else are refused in one line, and nothing outside the
run changes."""

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from tests.marking_module import EVIL, NAME, write_marking_module
from wsi_mil.cli import main
from wsi_mil.errors import ModelError, WsiMilError, one_line
from wsi_mil.io.files import digest_file
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.seals import sealed
from wsi_mil.scoring import load_model


@dataclass(frozen=True)
class Place:
    """The working folder, with a module that marks its import; the files of the user beside it."""

    here: Path
    home: Path

    def contents(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.home)): p.read_bytes() for p in self.home.rglob("*") if p.is_file()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    here, home = tmp_path / "home" / "here", tmp_path / "home"
    here.mkdir(parents=True)
    (home / "thesis.tex").write_text("years of work")
    write_marking_module(here, home / "imported", NAME, "json", "pickle")
    monkeypatch.chdir(here)
    monkeypatch.delenv("WSI_MIL_TRUST", raising=False)
    return Place(here, home)


class MarksItsLoading:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line with which a command refuses its input; its exit code must be 1."""
    started = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert (stop.value.code, len(lines)) == (1, 1), printed.err
    assert len(lines[0]) < 2010
    assert all(letter.isprintable() for letter in lines[0])
    assert "Traceback" not in printed.err
    assert time.monotonic() - started < 20
    return lines[0]


# ---- model folders


def changed_card(folder: Path, *keys: str, value: object) -> None:
    card = read_json(folder / "model.json")
    block = card
    for key in keys[:-1]:
        block = block[key]
    block[keys[-1]] = value
    (folder / "model.json").write_text(json.dumps(sealed(card)))


def pickled_weights(folder: Path) -> None:
    home = folder.parents[1]
    (folder / "model.safetensors").write_bytes(pickle.dumps(MarksItsLoading(home / "imported")))
    changed_card(folder, "weights_digest", value=digest_file(folder / "model.safetensors"))


def weights_without_standardizer(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["standardizer/mean"]
    save_file(tensors, folder / "model.safetensors")
    changed_card(folder, "weights_digest", value=digest_file(folder / "model.safetensors"))


def sparse_tensor_header(folder: Path) -> None:
    """A header that claims 2^62 bytes, as the first eight bytes of the format say how long it is."""
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "aggregator": (
        lambda folder: changed_card(folder, "training", "spec", "aggregator", value=EVIL),
        f"model.json: training.spec.aggregator={EVIL} is code.*--trust {EVIL}",
    ),
    "task": (lambda folder: changed_card(folder, "task", "kind", value=EVIL), f"task.kind={EVIL} is code"),
    "encoder": (
        lambda folder: changed_card(folder, "encoder", "name", value=EVIL), f"encoder.name={EVIL} is code"
    ),
    "function of Python": (
        lambda folder: changed_card(folder, "training", "spec", "aggregator", value="os:system"),
        "aggregator=os:system is code",
    ),
    "pickle": (pickled_weights, "model.safetensors cannot be read"),
    "no standardizer": (weights_without_standardizer, "do not fit aggregator.*standardizer/mean"),
    "endless header": (sparse_tensor_header, "model.safetensors is not the file that"),
    "huge": (lambda folder: changed_card(folder, "in_features", value=10**12), "in_features must be a whole"),
    "huge layers": (
        lambda folder: changed_card(folder, "training", "spec", "params", value={"hidden": [10**13]}),
        "do not fit aggregator 'focus_mil' with the settings in model.json",
    ),
    "nested": (lambda folder: (folder / "model.json").write_text("[" * 100_000), "100 levels of lists"),
    "list": (lambda folder: (folder / "model.json").write_text("[]"), "expected a JSON object, found list"),
    "terminal": (
        lambda folder: changed_card(folder, "format_version", value="\x1b[2J\n" * 10_000),
        r"has format \\x1b\[2J ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_folder_is_refused_in_one_line(
    kind: str, place: Place, small_run: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, expected = MODELS[kind]
    model, slides = place.home / "model", place.home / "slides"
    shutil.copytree(small_run / "models" / "focus_mil" / "fold0", model)
    slides.mkdir()
    shutil.copy(sorted((cohort / "slides").iterdir())[0], slides)
    change(model)
    before = place.contents()
    line = refused(capsys, "predict", model, slides, "--out", place.here / "out")
    assert_matches(expected, line)
    assert place.contents() == before


def assert_matches(expected: str, line: str) -> None:
    with pytest.raises(WsiMilError, match=expected):
        raise WsiMilError(line)


@pytest.mark.slow
def test_whatever_a_card_holds_is_a_model_or_one_line(small_run: Path, tmp_path: Path) -> None:
    """Every value of model.json is replaced by values of other types, sizes and forms."""
    values = [
        None, True, -1, 0, 10**6, 10**18, 1e308, float("nan"), "", "../../x", "a\nb", "x" * 5000, "\0", [],
        [[1]], {}, {"a": 1}, "os:system", ["a", "b"],
    ]  # fmt: skip
    folder = tmp_path / "model"
    shutil.copytree(small_run / "models" / "focus_mil" / "fold0", folder)
    whole = (folder / "model.json").read_text()
    tried = 0
    for keys in places_in(json.loads(whole)):
        for value in values:
            (folder / "model.json").write_text(whole)
            changed_card(folder, *keys, value=value)
            tried += 1
            with suppress(WsiMilError):  # any other error ends the test, and names itself
                load_model(folder)
    assert tried > 1000


def places_in(value: object, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in parts for place in [(*above, key), *places_in(part, (*above, key))]]


# ---- configurations

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
CONFIGURATIONS = {
    "aggregator": (f"run: run\nmodels: {{mine: {{aggregator: '{EVIL}'}}}}", f"models.mine.aggregator={EVIL}"),
    "encoder": (f"run: run\nencoder: {{name: '{EVIL}'}}", f"encoder.name={EVIL} is code"),
    "reader": (f"run: run\nslides: {{reader: '{EVIL}'}}", f"slides.reader={EVIL} is code"),
    "tag": (
        "run: !!python/object/apply:os.system ['touch ../imported']",
        "could not determine a constructor",
    ),
    "module tag": ("run: !!python/module:not_trusted_module", "could not determine a constructor"),
    "model name": ("run: run\nmodels: {'../../thesis': {aggregator: focus_mil}}", "has the part '..'"),
    "model path": ("run: run\nmodels: {'/tmp/x': {aggregator: focus_mil}}", "is an absolute path"),
    "encoder alias": ("run: run\nencoder: {name: texture, alias: '..'}", "encoder.alias"),
    "references": (BOMB, "more than 100,000 values"),
    "itself": ("run: run\nmodels: &m {mine: *m}", "a block that contains itself"),
    "nested": ("run: " + "[" * 5000, "nested too deeply"),
    "no text": ("\0\1\2", "not readable YAML"),
    "terminal": ('"\\e[2J": 1\nrun: run', "unknown key"),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_configuration_is_refused_in_one_line(
    kind: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    text, expected = CONFIGURATIONS[kind]
    path = place.home / "config.yaml"
    path.write_text(text)
    before = place.contents()
    assert_matches(f"config.yaml.*{expected}", refused(capsys, "run", path))
    assert place.contents() == before


def test_a_run_folder_of_somebody_else_is_refused_whatever_it_says_of_trust(
    place: Place, small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place.home / "run"
    shutil.copytree(small_run, run)
    values = yaml.safe_load((run / "config.yaml").read_text())
    values["models"]["focus_mil"]["aggregator"] = EVIL
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    provenance = read_json(run / "provenance.json")
    write_json(run / "provenance.json", {**provenance, "trusted": [EVIL]})
    before = place.contents()
    for subcommand in ("run", "score", "evaluate", "report", "poison"):
        assert_matches(f"config.yaml: models.focus_mil.aggregator={EVIL}", refused(capsys, subcommand, run))
    assert place.contents() == before


# ---- label tables

LABELS = {
    "zero bytes": (b"slide,label\na\0b,tumor\nb,normal\n", "holds zero bytes"),
    "large id": (b"slide,label\n" + b"a" * 10_000_000 + b",tumor\nb,normal\n", "line 2: no valid CSV"),
    "large label": (b"slide,label\na," + b"x" * 10_000_000 + b"\nb,normal\n", "line 2: no valid CSV"),
    "no table": (os.urandom(5000), "labels.csv"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_table_is_refused_in_one_line(
    kind: str, place: Place, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, expected = LABELS[kind]
    labels = place.home / "labels.csv"
    labels.write_bytes(data)
    before = place.contents()
    config = place.home / "config.yaml"
    config.write_text(yaml.safe_dump({"run": str(place.here / "out")}))
    given = (f"slides.folder={cohort / 'slides'}", f"slides.labels={labels}")
    assert_matches(expected, refused(capsys, "run", config, *given))
    config.unlink()
    assert {name: data for name, data in place.contents().items() if "here/out" not in name} == before


def test_ids_and_classes_that_are_paths_or_formulas_touch_nothing_outside(
    place: Place, cohort: Path, quick_config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    slides = place.home / "slides"
    slides.mkdir()
    for file in sorted((cohort / "slides").iterdir())[:2]:
        shutil.copy(file, slides)
    one, other = sorted(path.stem for path in slides.iterdir())
    paths = ["../../thesis", str(place.home / "thesis"), "..", ".", "b/" * 999]
    formulas = ["=cmd|'/c calc'!A1", "a\x1b[2J"]
    labels = place.home / "labels.csv"
    rows = [f"{one},../../thesis.tex", f"{other},normal", *(f"{name},normal" for name in formulas)]
    config = place.home / "config.yaml"
    given = {"folder": str(slides), "labels": str(labels)}
    values = {**quick_config, "slides": given, "run": str(place.here / "run")}
    config.write_text(yaml.safe_dump(values))
    for name in paths:
        labels.write_text("slide,label\n" + "\n".join([*rows, f"{name},normal"]) + "\n")
        before = place.contents()
        assert_matches("labels.csv: line 6: slide id '.* expected a path", refused(capsys, "tile", config))
        assert {n: data for n, data in place.contents().items() if not n.startswith("here/run/")} == before
    labels.write_text("slide,label\n" + "\n".join(rows) + "\n")
    before = place.contents()
    with pytest.raises(SystemExit) as stop:
        main(["tile", str(config)])
    assert stop.value.code == 3, "labels without slide are failed rows"
    after = place.contents()
    assert {name: data for name, data in after.items() if not name.startswith("here/run/")} == before
    assert len([name for name in after if name.endswith("tiles/zarr.json")]) == 2


def test_a_message_is_one_line_without_escape_sequences() -> None:
    error = ModelError("a\nb\x1b[2J\u202e" + "x" * 10_000 + ": train again")
    line = one_line(str(error))
    assert line.startswith(r"a b\x1b[2J\u202exxx")
    assert line.endswith("xxx: train again")
    assert len(line) == 2000
