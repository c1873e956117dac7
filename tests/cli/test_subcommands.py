"""Subcommands are found in their folder; the list of them costs no heavy import and has a fixed order."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from wsi_mil.cli import subcommands
from wsi_mil.cli.main import cli
from wsi_mil.cli.parameters import NameFrom
from wsi_mil.stages.table import STAGES

HEAVY = {
    "torch",
    "openslide",
    "numpy",
    "pydantic",
    "zarr",
    "dask",
    "cv2",
    "timm",
    "sklearn",
    "shapely",
    "yaml",
}
FIRST = ["run", "demo", "synth", "check", "tile", "extract", "train", "score", "heatmap", "refine"]
LAST = ["evaluate", "report", "audit", "poison", "import", "export", "push", "pull", "predict", "ls"]


def listed() -> list[str]:
    """The names in `wsi-mil --help`, from top to bottom."""
    text = CliRunner().invoke(cli, ["--help"]).output
    block = text.partition("Subcommands:\n")[2].partition("\n\n")[0]
    return [line.split()[0] for line in block.splitlines() if line[2] != " "]


def test_the_list_has_the_order_of_the_data_and_misses_no_file() -> None:
    assert listed() == [*FIRST, *LAST]
    files = {path.stem.removesuffix("_") for path in Path(subcommands.__path__[0]).glob("[!_]*.py")}
    assert set(listed()) == files == set(subcommands.subcommand_names())


def test_every_stage_is_a_subcommand_with_the_description_of_the_table() -> None:
    for name, stage in STAGES.items():
        command = subcommands.load_subcommand(name)
        assert (command.name, command.help) == (name, stage.description)


@pytest.mark.parametrize("name", subcommands.subcommand_names())
def test_a_subcommand_says_what_it_does(name: str) -> None:
    command = subcommands.load_subcommand(name)
    assert command.name == name
    assert command.help
    [line] = [line for line in subcommands.list_subcommands() if line.name == name]
    assert line.summary


def test_no_two_subcommands_have_the_same_position() -> None:
    positions = [line.position for line in subcommands.list_subcommands()]
    assert len(set(positions)) == len(positions)


def test_a_file_that_is_added_is_a_new_subcommand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "count_.py").write_text(
        "import click\nPOSITION = 15\nSUMMARY = 'count slides'\n"
        "@click.command('count')\ndef command():\n    click.echo('three')\n"
    )
    monkeypatch.setattr(subcommands, "__path__", [*subcommands.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wsi_mil.cli.subcommands.count_", raising=False)
    assert listed()[:3] == ["run", "count", "demo"]
    assert CliRunner().invoke(cli, ["count"]).output == "three\n"


def loaded_by(*arguments: str) -> set[str]:
    code = (
        "import sys\nfrom wsi_mil.cli.main import main\n"
        f"try: main({list(arguments)})\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_list_loads_no_heavy_library() -> None:
    assert loaded_by("--help") & HEAVY == set()


def test_one_subcommand_does_not_import_the_others() -> None:
    found = loaded_by("push", "--help")
    assert found & HEAVY == set()
    assert {name for name in found if name.startswith("wsi_mil.cli.subcommands.")} == {
        "wsi_mil.cli.subcommands.push"
    }


def test_names_are_asked_for_only_when_needed() -> None:
    asked = []

    def names() -> list[str]:
        asked.append(1)
        return ["noise", "cast"]

    @click.command()
    @click.option("--kind", type=NameFrom(names))
    def command(kind: str | None) -> None:
        click.echo(kind)

    assert not asked
    assert "[noise|cast]" in CliRunner().invoke(command, ["--help"]).output
    assert CliRunner().invoke(command, ["--kind", "cast"]).output == "cast\n"
    wrong = CliRunner().invoke(command, ["--kind", "cats"])
    assert wrong.exit_code == 2
    assert "'cats' is not one of 'noise', 'cast'" in wrong.output
