"""A slide that is cut off, replaced or removed while it is read fails by name, and nothing of it is stored;
the other slides are done, and the next run makes the same bytes as if nothing had happened."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from fsspec.implementations.memory import MemoryFileSystem

from tests.reliability import harm
from tests.reliability.harm import HARMS, content_of, touched
from tests.reliability.small_lab import Lab
from tests.slides.dicom_files import write_dicom
from tests.stages import handmade
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders import build_encoder
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import DataError, MachineError, SlideError
from wsi_mil.features import SlideStore, extract_features
from wsi_mil.features.tiled import open_tiled
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.slides import SlideReader, open_slide
from wsi_mil.slides.state import ChangedSlideError, slide_state
from wsi_mil.synthetic.writing import write_pyramid

HURT = "b"
"""The slide that something happens to."""
Wound = Callable[[Path], None]


@pytest.fixture(params=HARMS)
def wound(request: pytest.FixtureRequest) -> tuple[Wound, str]:
    return HARMS[request.param]


# ---- one reader


def read_with_harm(path: Path, wound: Wound, reader: str = "auto") -> None:
    """Read all of a slide; something happens to it after the first region."""
    with open_slide(path, reader=reader) as slide:
        for y0_px in range(0, handmade.HEIGHT, 64):
            slide.read_region(0, y0_px, 0, handmade.WIDTH, 64)
            if y0_px == 0:
                wound(path)


@pytest.mark.parametrize("reader", ["openslide", "tiff", "tiffslide"])
def test_every_reader_sees_every_harm(reader: str, wound: tuple[Wound, str], tmp_path: Path) -> None:
    path = handmade.write_slide(tmp_path / "slides" / "a.tiff", handmade.pixels())
    words = rf"slide 'a' was {wound[1]} while it was read: expected .*found.*a\.tiff.*run again"
    with pytest.raises(ChangedSlideError, match=words):
        read_with_harm(path, wound[0], reader)


def test_raw_jpeg_tiles_of_another_slide(tmp_path: Path) -> None:
    for name, seed in (("a.tiff", 0), ("b.tiff", 1)):
        write_pyramid(tmp_path / name, handmade.pixels(seed), (1.0, 1.0), factor=0)
    with pytest.raises(ChangedSlideError, match="'a' was changed"):
        read_with_harm(tmp_path / "a.tiff", lambda path: (tmp_path / "b.tiff").replace(path), "jpeg_tiles")


def test_the_change_is_the_reason_of_an_error_that_it_causes(tmp_path: Path) -> None:
    path = handmade.write_slide(tmp_path / "a.tiff", handmade.pixels())
    with pytest.raises(ChangedSlideError, match="was changed") as caught:
        read_with_harm(path, lambda path: os.truncate(path, 1000))
    assert "no pixels at level 0" in str(caught.value.__context__)


def test_a_full_disk_stays_the_reason(tmp_path: Path) -> None:
    def disk_is_full(path: Path) -> None:
        harm.cut_off(path)
        raise MachineError("no space left")

    path = handmade.write_slide(tmp_path / "a.tiff", handmade.pixels())
    with pytest.raises(MachineError, match="no space left"):
        read_with_harm(path, disk_is_full)


def test_what_is_the_same_passes(tmp_path: Path) -> None:
    """Another number in the file system, with the same size, time and content, is no change."""
    path = handmade.write_slide(tmp_path / "a.tiff", handmade.pixels())
    with open_slide(path) as slide:
        before = path.stat()
        harm.replace(path, path.read_bytes())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_ino != before.st_ino
        slide.check_unchanged()
        path.chmod(0o600)


def test_a_file_that_changes_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = handmade.write_slide(tmp_path / "a.tiff", handmade.pixels())

    def opened_late(name: str, *arguments: object) -> SlideReader:
        harm.cut_off(path)
        raise SlideError("it is damaged")

    monkeypatch.setattr("wsi_mil.slides.opening._open", opened_late)
    with pytest.raises(ChangedSlideError, match="'a' was changed while it was read"):
        open_slide(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_any_more(tmp_path: Path) -> None:
    path = handmade.write_slide(tmp_path / "slides" / "a.tiff", handmade.pixels())
    try:
        with pytest.raises(ChangedSlideError, match="Permission denied"), open_slide(path):
            path.parent.chmod(0)
    finally:
        path.parent.chmod(0o700)


def test_a_share_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = handmade.write_slide(tmp_path / "a.tiff", handmade.pixels())

    def stale(path: object) -> object:
        raise OSError(116, "Stale file handle")

    slide = open_slide(path)
    monkeypatch.setattr("wsi_mil.slides.state._file_state", stale)
    with pytest.raises(ChangedSlideError, match=r"could not be reached any more.*Stale file handle.*mounted"):
        slide.check_unchanged()
    slide.close()


# ---- slides of several files


def test_every_file_of_a_dicom_series_counts(tmp_path: Path) -> None:
    pixels = handmade.pixels()
    files = [
        write_dicom(tmp_path / f"{level}.dcm", pixels[:: 2**level, :: 2**level], level) for level in (0, 1)
    ]
    (tmp_path / "notes.txt").write_text("no part of the slide")
    slide = open_slide(files[0])
    assert len(slide.info.level_sizes_px) == 2
    (tmp_path / "notes.txt").unlink()
    slide.check_unchanged()
    files[1].unlink()
    with pytest.raises(ChangedSlideError, match=r"'0' was removed.*1\.dcm"):
        slide.check_unchanged()
    slide.close()


@pytest.mark.parametrize("index", ["s.mrxs", "s.vms", "s"])
def test_files_beside_the_index_and_in_folders_count(index: str, tmp_path: Path) -> None:
    """No library opens these; the files are those of MIRAX, Hamamatsu VMS, and a folder."""
    path = tmp_path / index
    data = tmp_path / "s" / "Data0000.dat" if index != "s.vms" else tmp_path / "s(0,0).jpg"
    data.parent.mkdir(exist_ok=True)
    data.write_bytes(b"pixels")
    (tmp_path / "t.jpg").write_bytes(b"of another slide")
    if index != "s":
        path.write_text("[Virtual Microscope Specimen]\nImageFile=s(0,0).jpg\nImageFile(1,0)=absent.jpg\n")
    state = slide_state(path, "s")
    assert len(state.files) == (1 if index == "s" else 2)
    touched(tmp_path / "t.jpg")
    state.check()
    first = state.digest
    data.write_bytes(b"longer pixels")
    with pytest.raises(ChangedSlideError, match=re.escape(data.name)):
        state.check()
    assert slide_state(path, "s").digest != first


def test_a_slide_behind_a_url(tmp_path: Path) -> None:
    memory = MemoryFileSystem()
    content = handmade.write_slide(tmp_path / "a.tiff", handmade.pixels()).read_bytes()
    memory.pipe_file("/changes/a.tiff", content)
    url = "memory://changes/a.tiff"
    with open_slide(url) as slide:
        slide.read_region(0, 0, 0, 64, 64)
    slide.check_unchanged()
    memory.pipe_file("/changes/a.tiff", content + bytes(8))
    with pytest.raises(ChangedSlideError, match="'a' was changed"):
        slide.check_unchanged()
    memory.rm("/changes/a.tiff")
    with pytest.raises(ChangedSlideError, match="'a' could not be reached"):
        slide.check_unchanged()


# ---- features


def stored(folder: Path, slide_id: str = "s0") -> tuple[SlideSource, SlideStore]:
    source, store = handmade.source(folder, slide_id), SlideStore(folder / "s.zarr", slide_id)
    digest = slide_state(source.file, slide_id).digest
    store.write_tiles(handmade.table(slide_id), handmade.info(slide_id), "by hand", digest)
    return source, store


def test_features_of_a_reader_that_the_caller_opened(tmp_path: Path) -> None:
    source, store = stored(tmp_path)
    slide = open_slide(source.file)
    harm.write_other_pixels(tmp_path / "s0.tiff")
    with pytest.raises(ChangedSlideError):
        extract_features(slide, store, build_encoder(EncoderSpec()), EncoderSpec())
    slide.close()
    assert store.encoders() == []


def test_a_slide_replaced_before_it_is_opened_is_not_the_tiled_one(tmp_path: Path) -> None:
    source, store = stored(tmp_path)
    open_tiled(source, "auto", store).close()
    harm.write_other_pixels(tmp_path / "s0.tiff")
    with pytest.raises(DataError, match=r"'s0': its file is not the one that was tiled.*s0\.tiff"):
        open_tiled(source, "auto", store)


# ---- stages, in this process


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def hurt_after(
    monkeypatch: pytest.MonkeyPatch, lab: Lab, regions: int, wound: Wound, slide_id: str = HURT
) -> list[int]:
    """Let the slide be harmed once, before the region after so many is read; the list counts the regions."""
    own, count, name = SlideReader.read_region, [0], lab.id_of(slide_id)

    def read_region(self: SlideReader, *arguments: int) -> np.ndarray:
        if self.info.slide_id == name:
            count[0] += 1
            if count[0] == regions + 1:
                wound(lab.path(slide_id))
        return own(self, *arguments)

    monkeypatch.setattr(SlideReader, "read_region", read_region)
    return count


def check_failed(lab: Lab, result: Result, stage: str, word: str, slide_id: str = HURT) -> None:
    """One slide failed by name, the other two are done, and its traceback is kept."""
    name = lab.id_of(slide_id)
    assert result.exit_code == 3, result.output
    rows = {row.slide_id: row for row in OutcomeTable(lab.run / "outcomes.csv").rows(stage)}
    found = {key: row.status for key, row in rows.items()}
    assert found == {lab.id_of(s): "failed" if s == slide_id else "done" for s in "abc"}
    words = rf"slide '{name}' was {word} while it was read: expected .*, found .*{slide_id}\.tiff.* run again"
    assert re.search(words, rows[name].reason), rows[name].reason
    assert "ChangedSlideError" in RunFolder(lab.run).error_file(name).read_text()


@pytest.mark.usefixtures("work_here")
@pytest.mark.parametrize("regions", [0, 1])
def test_tile(lab: Lab, wound: tuple[Wound, str], regions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first region is that in which tissue is found, the second is the preview."""
    with monkeypatch.context() as patched:
        count = hurt_after(patched, lab, regions, wound[0])
        check_failed(lab, lab.call("tile", lab.config), "tile", wound[1])
        assert count[0] > regions
    store, outline = lab.run / "slides" / "b" / "b.zarr", lab.run / "tissue" / "b" / "b.geojson"
    assert not store.exists()
    assert outline.exists() == bool(regions)  # it was found before anything happened
    check_as_without_harm(lab, "tile")


@pytest.mark.usefixtures("work_here")
@pytest.mark.slow
@pytest.mark.parametrize("regions", [0, 3, 23])
def test_extract(lab: Lab, wound: tuple[Wound, str], regions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 24 tiles. Before the mechanism, unreadable tiles were counted, and tiles of two files mixed."""
    assert lab.call("tile", lab.config).exit_code == 0
    tiled = SlideStore(lab.run / "slides" / "b" / "b.zarr", lab.id_of(HURT)).tiles_digest()
    with monkeypatch.context() as patched:
        count = hurt_after(patched, lab, regions, wound[0])
        check_failed(lab, lab.call("extract", lab.config), "extract", wound[1])
        assert count[0] == 24
    store = SlideStore(lab.run / "slides" / "b" / "b.zarr", lab.id_of(HURT))
    assert store.encoders() == []
    assert store.tiles_digest() == tiled
    check_as_without_harm(lab, "tile", "extract")


def check_as_without_harm(lab: Lab, *stages: str) -> None:
    """The slide is put back; then the run holds what a run holds that nothing happened to."""
    lab.put_back()
    result = lab.call(stages[-1], lab.config)
    assert result.exit_code == 0, result.output
    assert content_of(lab.run / "errors") == {}
    found = lab.made()
    shutil.rmtree(lab.run)
    for stage in stages:
        assert lab.call(stage, lab.config).exit_code == 0
    assert found == lab.made()
