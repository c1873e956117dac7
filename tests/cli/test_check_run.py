"""check RUN [--deep]: whole stores, and every kind of damage named with what to do."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wsi_mil.cli.main import cli
from wsi_mil.features import SlideStore
from wsi_mil.io.seals import sealed
from wsi_mil.run.integrity import check_store


def check(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["check", *map(str, arguments)])


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A few stores of a run, to be damaged."""
    folder = tmp_path / "run"
    (folder / "slides").mkdir(parents=True)
    shutil.copy(small_run / "provenance.json", folder)
    for path in sorted((small_run / "slides").glob("*.zarr"))[:3]:
        shutil.copytree(path, folder / "slides" / path.name)
    return folder


def first(run: Path) -> Path:
    return min((run / "slides").glob("*.zarr"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_whole_stores(run: Path) -> None:
    for options, how in (((), "features not read"), (("--deep",), "every byte compared")):
        result = check(run, *options)
        assert result.exit_code == 0, result.output
        assert f"3 of 3 stores are whole ({how}" in result.output
    assert "texture (" in result.output


def test_a_flipped_bit_in_the_features_is_found_by_reading_them(run: Path) -> None:
    chunk = first(run) / "features" / "texture" / "features" / "c" / "0" / "0"
    flip(chunk, 100)
    assert check(run).exit_code == 0
    result = check(run, "--deep")
    assert result.exit_code == 3
    assert "2 of 3 stores are whole" in result.output
    assert "do not match their digest" in result.output
    assert "wsi-mil extract" in result.output


def test_a_flipped_bit_in_the_coordinates_is_found_without(run: Path) -> None:
    chunk = next(p for p in (first(run) / "tiles" / "coords" / "c").rglob("*") if p.is_file())
    flip(chunk, 0)
    result = check(run)
    assert result.exit_code == 3
    assert "the tile table does not match its digest" in result.output


@pytest.mark.parametrize("damage", ["cut", "gone", "metadata", "features metadata"])
def test_damage_of_files(run: Path, damage: str) -> None:
    store = first(run)
    group = store / "features" / "texture"
    if damage == "cut":
        chunk = group / "features" / "c" / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:-50])
    elif damage == "gone":
        shutil.rmtree(group / "features" / "c")
    elif damage == "metadata":
        (store / "tiles" / "zarr.json").write_text("{")
    else:
        (group / "zarr.json").write_text('{"zarr_format": 3')
    result = check(run, "--deep")
    assert result.exit_code == 3, result.output
    line = next(line for line in result.output.splitlines() if line.startswith(store.stem))
    assert "run `wsi-mil" in line
    assert "Traceback" not in result.output


def test_features_of_other_tiles(run: Path) -> None:
    store = first(run)
    meta = store / "features" / "texture" / "zarr.json"
    value = json.loads(meta.read_text())
    value["attributes"] = sealed({**value["attributes"], "tiles_digest": "0" * 16})
    meta.write_text(json.dumps(value))
    row = check_store(SlideStore(store, store.stem), deep=False)
    assert row.problem == "features texture are of other tiles: run `wsi-mil extract`"


@pytest.mark.parametrize("options", [(), ("--deep",)])
def test_outlines_that_were_edited_are_listed_and_are_no_damage(
    run: Path, small_run: Path, options: tuple[str, ...]
) -> None:
    names = sorted(path.stem for path in (run / "slides").iterdir())
    (run / "tissue").mkdir()
    for name in names:
        shutil.copy(small_run / "tissue" / f"{name}.geojson", run / "tissue")
    assert "edited by hand" not in check(run, *options).output
    moved = run / "tissue" / f"{names[0]}.geojson"
    value = json.loads(moved.read_text(encoding="utf-8"))
    value["features"] = value["features"][:1]
    value["features"][0]["geometry"]["coordinates"][0][1][0] += 10
    moved.write_text(json.dumps(value), encoding="utf-8")
    drawn = {"type": "Polygon", "coordinates": [[[0, 0], [900, 0], [900, 900], [0, 0]]]}
    (run / "tissue" / f"{names[2]}.geojson").write_text(json.dumps(drawn), encoding="utf-8")
    result = check(run, *options)
    assert result.exit_code == 0, result.output
    assert f"\ntissue outline edited by hand of 2 slides: {names[0]}, {names[2]}\n" in result.output
    moved.write_text("{", encoding="utf-8")
    result = check(run, *options)
    assert f"\ntissue outline edited by hand of 1 slide: {names[2]}\n" in result.output
    assert (f"{moved} is not GeoJSON" in result.output) == bool(options)
    assert result.exit_code == (3 if options else 0)


def test_deep_is_for_run_folders(tmp_path: Path) -> None:
    result = check(tmp_path, "--deep")
    assert result.exit_code == 2
    assert "is not one" in result.output
