"""The slides of a folder, their ids and their order."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.slides.dicom_files import write_dicom
from tests.slides.test_readers import LEVELS, write
from wsi_mil.errors import DataError, SlideError
from wsi_mil.slides import find_slides, open_slide
from wsi_mil.slides.ids import existing_file


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


def test_links_to_folders_are_entered_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A loop, a folder outside reached by two links, a link to a file, and a link to nothing."""
    slides, outside = tmp_path / "slides", tmp_path / "store"
    for folder in (slides / "a", outside):
        folder.mkdir(parents=True)
    (slides / "a" / "x.svs").touch()
    (outside / "y.svs").touch()
    (slides / "a" / "back").symlink_to(slides)
    (slides / "one").symlink_to(outside)
    (slides / "two").symlink_to(outside)
    (slides / "z.svs").symlink_to(outside / "y.svs")
    (slides / "dead.svs").symlink_to(tmp_path / "gone.svs")
    found = [slide.slide_id for slide in find_slides(slides)]
    assert found == ["a/x", "one/y", "z"]
    assert "dead.svs is a link to nothing" in caplog.text


def test_a_slide_folder_that_is_a_link_is_entered(tmp_path: Path) -> None:
    (tmp_path / "real" / "b").mkdir(parents=True)
    (tmp_path / "real" / "b" / "x.svs").touch()
    (tmp_path / "slides").symlink_to(tmp_path / "real")
    assert [slide.slide_id for slide in find_slides(tmp_path / "slides")] == ["b/x"]


def dicom(path: Path, series: str, instance: str, side: int, kind: str = "VOLUME") -> None:
    """Write a file with the elements that group files, and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    data.SOPInstanceUID, data.SeriesInstanceUID = instance, series
    data.ImageType = ["DERIVED", "PRIMARY", kind, "NONE"]
    data.TotalPixelMatrixColumns = data.TotalPixelMatrixRows = side
    data.save_as(path, enforce_file_format=True)


def test_a_dicom_series_is_one_slide(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its finest level gives the id, also where a label is larger; other series and broken files stay."""
    for name, series, side, kind in (
        ("a", "1.2", 100, "VOLUME"),
        ("b", "1.2", 400, "VOLUME"),
        ("c", "1.2", 900, "LABEL"),
        ("d", "1.3", 50, "VOLUME"),
    ):
        dicom(tmp_path / f"{name}.dcm", series, f"1.2.3.{side}", side, kind)
    (tmp_path / "e.dcm").write_bytes(b"no dicom")
    assert [slide.slide_id for slide in find_slides(tmp_path)] == ["b", "d", "e"]
    assert [line for line in caplog.messages if "DICOM" in line] == []


def test_a_dicom_series_that_is_stored_twice_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("one", "two"):
        dicom(tmp_path / folder / "a.dcm", "1.2", "1.2.3", 100)
    assert [slide.slide_id for slide in find_slides(tmp_path)] == ["one/a"]
    assert "DICOM series 1.2 is stored in 2 folders" in caplog.text


@pytest.mark.parametrize("name", ["a::b", "memory::x", "é", "e\u0301"])
@pytest.mark.parametrize("reader", ["auto", "openslide", "tiffslide", "tiff"])
def test_unusual_names_open(tmp_path: Path, name: str, reader: str) -> None:
    """Two colons chain URLs in fsspec; é has two spellings in Unicode."""
    write(tmp_path / f"{name}.tiff", LEVELS)
    [file] = find_slides(tmp_path)
    with open_slide(file.path, reader=reader) as slide:
        np.testing.assert_array_equal(slide.read_region(3, 5, 0, 20, 9), LEVELS[0][5:14, 3:23])


COMPOSED, DECOMPOSED = "Lung\u00e9", "Lunge\u0301"


@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED])
def test_ids_have_one_unicode_form_and_paths_that_of_the_disk(tmp_path: Path, name: str) -> None:
    """In names of files and folders, of a file that is given itself, and of an open slide."""
    (tmp_path / name).mkdir()
    path = write(tmp_path / name / f"{name}.tiff", LEVELS)
    [found] = find_slides(tmp_path)
    assert (found.slide_id, found.path) == (f"{COMPOSED}/{COMPOSED}", path)
    assert [slide.slide_id for slide in find_slides(path)] == [COMPOSED]
    with open_slide(path) as slide:
        assert (slide.info.slide_id, slide.info.path) == (COMPOSED, str(path))


@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED])
def test_ids_of_urls_and_dicom_have_one_unicode_form(tmp_path: Path, name: str) -> None:
    files = fsspec.filesystem("memory")
    files.pipe(f"/unicode_{len(name)}/{name}.svs", b"x")
    [remote] = find_slides(f"memory://unicode_{len(name)}")
    assert (remote.slide_id, str(remote.path).endswith(f"/{name}.svs")) == (COMPOSED, True)
    dicom(tmp_path / f"{name}.dcm", "1.2", "1.2.3", 100)
    dicom(tmp_path / "z.dcm", "1.2", "1.2.4", 50)
    assert [slide.slide_id for slide in find_slides(tmp_path)] == [COMPOSED]


def test_names_that_differ_only_in_unicode_form_are_refused(tmp_path: Path) -> None:
    for name in (COMPOSED, DECOMPOSED):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.svs").touch()
    with pytest.raises(DataError, match=r"differ only in Unicode form .*expected one file: take one of them"):
        find_slides(tmp_path)


def test_a_file_is_found_by_a_name_in_another_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / DECOMPOSED / f"{DECOMPOSED}.xml"
    assert existing_file(tmp_path, f"{COMPOSED}/{COMPOSED}.xml") == tmp_path / COMPOSED / f"{COMPOSED}.xml"
    path.parent.mkdir()
    path.touch()
    assert existing_file(tmp_path, f"{COMPOSED}/{COMPOSED}.xml") == path
    assert existing_file(tmp_path, f"{DECOMPOSED}/{DECOMPOSED}.xml") == path
    (path.parent / f"{COMPOSED}.xml").touch()
    with pytest.raises(
        DataError, match=r"'Lung\\xe9.xml', 'Lunge\\u0301.xml'|'Lunge\\u0301.xml', 'Lung\\xe9"
    ):
        existing_file(tmp_path, f"{COMPOSED}/{COMPOSED}.xml")


@pytest.mark.parametrize("damaged", ["a", "b"])
def test_a_dicom_series_whose_frames_lie_outside_the_file_is_refused(tmp_path: Path, damaged: str) -> None:
    """OpenSlide ends its process there, also for another file of the series."""
    for level, name in enumerate("ab"):
        write_dicom(tmp_path / f"{name}.dcm", LEVELS[level], level, jpeg=True)
    with open_slide(tmp_path / "a.dcm") as slide:
        assert len(slide.info.level_sizes_px) == 2
    path = tmp_path / f"{damaged}.dcm"
    data = bytearray(path.read_bytes())
    table = data.index(b"\xe0\x7f\x10\x00") + 12 + 8
    for place, value in ((table, 16), (table + 8, 0), (table + 7, 255)):
        path.write_bytes(data[: place + 3] + bytes([value ^ 1]) + data[place + 4 :])
        with pytest.raises(SlideError, match=rf"'a'.*{damaged}\.dcm states frames outside its .* bytes"):
            open_slide(tmp_path / "a.dcm")
    path.write_bytes(data)
    with open_slide(tmp_path / "a.dcm") as slide:
        assert slide.read_region(0, 0, 1, 224, 160).shape == (160, 224, 3)


def test_values_against_the_standard_of_dicom_are_not_printed(tmp_path: Path) -> None:
    """A warning of pydicom would be an error here."""
    write_dicom(tmp_path / "a.dcm", LEVELS[0])
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data.replace(b"1.2.3.4\0", b"1.2.3.x\0"))
    assert [slide.slide_id for slide in find_slides(tmp_path)] == ["a"]
    with open_slide(tmp_path / "a.dcm") as slide:
        assert slide.info.vendor == "dicom"
