"""wsi-mil check --annotations: per file what is used and what is not and why, and files of no slide."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.stages import handmade
from wsi_mil.cli.main import cli

BOX = [[100, 100], [400, 100], [400, 300], [100, 300], [100, 100]]


def write(folder: Path, slide_id: str, **properties: object) -> None:
    """Write a slide of 1 µm/px and an annotation of 300 x 200 px."""
    (folder / "outlines").mkdir(exist_ok=True)
    handmade.write_slide(folder / "slides" / f"{slide_id}.tiff", handmade.pixels())
    geometry = {"type": "Polygon", "coordinates": [BOX]}
    text = json.dumps({"type": "Feature", "geometry": geometry, "properties": properties})
    (folder / "outlines" / f"{slide_id}.geojson").write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    write(tmp_path, "good", classification="Tumor")
    write(tmp_path, "unknown", classification="CaP")
    return tmp_path


def check(folder: Path, *more: str) -> tuple[int, str]:
    tiles = ["--tile-mpp", "1", "--tile-px", "64"]
    options = ["check", str(folder / "slides"), "--annotations", str(folder / "outlines"), *tiles, *more]
    result = CliRunner().invoke(cli, options)
    return result.exit_code, result.output


def line(output: str, start: str, holds: str) -> list[str]:
    return next(row.split() for row in output.splitlines() if row.startswith(start) and holds in row)


def test_each_file_has_its_counts_and_reasons(folder: Path) -> None:
    code, output = check(folder)
    assert code == 0
    assert line(output, "good", "geojson") == ["good", "good.geojson", "QuPath", "GeoJSON", *"1101", "0.06"]
    assert line(output, "unknown", "geojson")[:9] == [
        *("unknown", "unknown.geojson", "QuPath", "GeoJSON"),
        *"10000",
    ]
    assert "no lesion: its lesions are unknown if the slide is positive" in output
    assert "1 Polygon of class 'CaP': its class is not known to be a lesion" in output
    assert "annotations: 2 of 2 files can be read, 0 slides have none" in output
    assert "annotations without lesion: 1: unknown; slides.lesion_classes names more" in output


def test_lesion_class_extends_the_vocabulary(folder: Path) -> None:
    code, output = check(folder, "--lesion-class", "ca?")
    assert code == 0
    assert "without lesion" not in output
    assert line(output, "unknown", "geojson")[4:] == [*"1101", "0.06"]
    result = CliRunner().invoke(cli, ["check", str(folder / "slides"), "--lesion-class", "x"])
    assert "--lesion-class is for --annotations FOLDER" in result.output


def test_a_refused_file_is_named_and_the_table_is_whole(folder: Path) -> None:
    (folder / "outlines" / "good.geojson").write_text("{")
    code, output = check(folder)
    assert code == 3
    assert "good.geojson is not GeoJSON" in output
    assert "1 of 2 files can be read" in output
    assert "class 'CaP'" in output


def test_files_of_no_slide_and_second_files_are_named(folder: Path) -> None:
    for name in ("stray.xml", "good.png", "good.json"):
        (folder / "outlines" / name).write_text("x")
    (folder / "outlines" / "unknown.geojson").unlink()
    output = check(folder)[1]
    assert "not read: good.json" in output
    assert "belong to no slide, or that no format claims: 2: good.png, stray.xml" in output
    assert "1 of 1 files can be read, 1 slides have none" in output


def test_a_folder_that_does_not_exist_is_refused(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["check", str(folder / "slides"), "--annotations", str(folder / "nope")])
    assert result.exit_code != 0
    assert "no such folder" in result.output + str(result.exception)
