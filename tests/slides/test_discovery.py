"""The slides of a folder, their ids and their order."""

from pathlib import Path

import pytest

from wsi_mil.errors import DataError
from wsi_mil.slides import find_slides


def test_ids_are_relative_paths_and_never_collide(tmp_path: Path) -> None:
    for name in (
        "a/x.svs",
        "b/x.svs",
        "b/y.svs",
        "b/y.tiff",
        "dots.in.name.tif",
        "ä ö.ndpi",
        ".hidden/z.svs",
        "notes.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {slide.slide_id: slide.path.name for slide in find_slides(tmp_path)}
    assert found == {
        "a/x": "x.svs",
        "b/x": "x.svs",
        "b/y.svs": "y.svs",
        "b/y.tiff": "y.tiff",
        "dots.in.name": "dots.in.name.tif",
        "ä ö": "ä ö.ndpi",
    }


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    for name in ("b.svs", "a.svs", "c.svs"):
        (tmp_path / name).touch()
    assert [slide.slide_id for slide in find_slides(tmp_path)] == ["a", "b", "c"]


def test_a_file_is_one_slide_and_an_absent_folder_an_error(tmp_path: Path) -> None:
    (tmp_path / "one.svs").touch()
    assert [slide.slide_id for slide in find_slides(tmp_path / "one.svs")] == ["one"]
    with pytest.raises(DataError, match="no slide folder"):
        find_slides(tmp_path / "nowhere")
