"""Nothing is removed that the program did not make."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zarr

from wsi_mil.errors import StoreError
from wsi_mil.io.files import remove, remove_made_files, sweep_temporaries, write_aside


@pytest.fixture
def thesis(tmp_path: Path) -> Path:
    folder = tmp_path / "thesis"
    (folder / "chapters").mkdir(parents=True)
    (folder / "chapters" / "one.tex").write_text("years of work")
    return folder


def test_a_folder_of_somebody_else_is_not_removed(thesis: Path) -> None:
    with pytest.raises(StoreError, match=r"thesis is in the way and was not made by wsi_mil"):
        remove(thesis)
    with pytest.raises(StoreError, match="in the way"), write_aside(thesis) as aside:
        zarr.create_group(store=str(aside))
    assert (thesis / "chapters" / "one.tex").read_text() == "years of work"
    assert [path.name for path in thesis.parent.iterdir()] == ["thesis"]


def test_a_folder_of_somebody_else_that_holds_stores_is_not_removed(thesis: Path) -> None:
    zarr.create_group(store=str(thesis / "slides" / "a.zarr"))
    with pytest.raises(StoreError, match="in the way"):
        remove(thesis)
    with pytest.raises(StoreError, match="in the way"):
        remove(thesis / "slides")
    assert (thesis / "slides" / "a.zarr" / "zarr.json").is_file()


def test_a_store_that_lost_its_mark_is_removed(tmp_path: Path) -> None:
    zarr.create_group(store=str(tmp_path / "a.zarr" / "tiles"))
    remove(tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_removed_and_not_what_it_leads_to(thesis: Path, tmp_path: Path) -> None:
    link = tmp_path / "x.zarr"
    link.symlink_to(thesis)
    remove(link)
    assert not link.is_symlink()
    assert (thesis / "chapters" / "one.tex").exists()


def test_stores_empty_folders_files_and_absent_ones_are_removed(tmp_path: Path) -> None:
    zarr.create_group(store=str(tmp_path / "a.zarr"))
    zarr.create_group(store=str(tmp_path / "b.zarr"), zarr_format=2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("a.zarr", "b.zarr", "empty", "file", "absent"):
        remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_leaves_of_a_removed_store_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    zarr.create_group(store=str(tmp_path / "a.zarr"))
    monkeypatch.setattr("wsi_mil.io.files.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(tmp_path / "a.zarr")
    monkeypatch.undo()
    [left] = tmp_path.iterdir()
    left.rename(left.with_name(left.name.replace(str(os.getpid()), "4194304")))  # a process that has ended
    assert sweep_temporaries(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_only_files_of_known_endings_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    (folder / "centre").mkdir(parents=True)
    for name in ("a.png", "centre/b.ome.tif", "notes.txt"):
        (folder / name).touch()
    remove_made_files(folder, (".png", ".ome.tif"))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    remove_made_files(folder, (".png",))
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_process_left_goes_although_its_number_is_in_use(tmp_path: Path) -> None:
    """A process that was killed and not awaited, and a later process with the number of the owner."""
    host = socket.gethostname().replace(".", "-")
    ended = subprocess.Popen(["true"])
    while Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    later = subprocess.Popen(["sleep", "60"])
    try:
        of_ended, of_earlier, written_now = (
            tmp_path / f".{name}.{host}.{pid}.tmp"
            for name, pid in (("a", ended.pid), ("b", later.pid), ("c", later.pid))
        )
        for path in (of_ended, of_earlier, written_now):
            path.touch()
        hour_ago = time.time() - 3600
        os.utime(of_earlier, (hour_ago, hour_ago))
        assert sweep_temporaries(tmp_path) == 2
        assert list(tmp_path.iterdir()) == [written_now]
    finally:
        later.kill()
        later.wait()
        ended.wait()
