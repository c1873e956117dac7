"""What a file without lesion means: the lesions of a positive slide are unknown, never none."""

import logging
from pathlib import Path

import pytest

from tests.evaluation.annotations import files
from tests.evaluation.annotations.files import BOX, INFO
from wsi_mil.errors import DataError
from wsi_mil.evaluation import AnnotationFolder, AnnotationRules, known_lesions, lesions_or_unknown
from wsi_mil.evaluation.annotations import read_annotations

RULES = AnnotationRules()
FOO = (
    "no lesion in 2 objects (1 Dot of class 'foo': its class is not known to be a lesion; 1 Polygon of class"
)


def write(folder: Path, text: str, name: str = "s.xml") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (files.asap(("Polygon", "foo", BOX), ("Dot", "foo", [(1, 1)])), FOO),
        (files.asap(), "no lesion in 0 objects (it holds nothing)"),
        (files.asap(("Polygon", "_2", BOX)), "no lesion in 1 objects (exclusions alone)"),
        (
            files.asap(("Polygon", "_0", BOX), ("Polygon", "_2", BOX)),
            "no lesion in 2 objects (all that is a lesion is cut out again)",
        ),
    ],
)
def test_a_positive_slide_without_lesion_has_unknown_truth(
    tmp_path: Path, text: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=r"s\.xml: no lesion in .* slides\.lesion_classes") as refused:
        known_lesions(path, "s", INFO, RULES)
    assert said in str(refused.value)
    with caplog.at_level(logging.WARNING):
        assert lesions_or_unknown(path, "s", INFO, RULES, "FROC") is None
    assert f"slide s is left out of FROC: {path}: {said}" in caplog.text
    assert read_annotations(path, "s", INFO) == []


def test_a_positive_slide_without_file_is_unknown_and_with_lesion_known(tmp_path: Path) -> None:
    assert lesions_or_unknown(None, "s", INFO, RULES, "FROC") is None
    path = write(tmp_path, files.asap(("Polygon", "Tumor", BOX)))
    found = lesions_or_unknown(path, "s", INFO, RULES, "FROC")
    assert found is not None
    assert [lesion.geometry.area for lesion in found] == [files.BOX_AREA]


def test_unknown_classes_beside_lesions_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, files.asap(("Polygon", "Tumor", BOX), ("Polygon", "tumour bed", BOX)))
    with caplog.at_level(logging.WARNING):
        assert len(known_lesions(path, "s", INFO, RULES)) == 1
    assert "annotations of slide s: s.xml: 1 Polygon of class 'tumour bed': its class is not" in caplog.text


def test_lesion_classes_of_the_folder_are_used(tmp_path: Path) -> None:
    path = write(tmp_path, files.asap(("Polygon", "CaP", BOX)))
    folder = AnnotationFolder(tmp_path, lesion_classes=("cap",))
    assert folder.find("s") == path
    assert len(known_lesions(path, "s", INFO, folder.rules)) == 1
    assert len(read_annotations(path, "s", INFO, "auto", ["ca?"])) == 1


def test_files_of_a_slide_in_order_of_preference(tmp_path: Path) -> None:
    names = ["s.xml", "s.ndpi.ndpa", "s.ndpa", "s.geojson", "s.json", "s.geojson.gz", "s_mask.tif", "s.tif"]
    for name in reversed([*names, "other.xml", "s.txt"]):
        write(tmp_path, "", name)
    assert [path.name for path in AnnotationFolder(tmp_path).find_all("s")] == names
    write(tmp_path, "", "t.XML")
    assert AnnotationFolder(tmp_path).find("t") == tmp_path / "t.XML"


@pytest.mark.parametrize("name", ["Lung\u00e9", "Lunge\u0301"])
@pytest.mark.parametrize("ending", [".xml", ".geojson", "_mask.tif"])
def test_a_file_is_found_in_either_unicode_form(tmp_path: Path, name: str, ending: str) -> None:
    """The slide id is in form NFC; two files of one name are refused."""
    folder = AnnotationFolder(tmp_path)
    (tmp_path / name).mkdir()
    path = write(tmp_path / name, "", f"{name}{ending}")
    assert folder.find_all("Lung\u00e9/Lung\u00e9") == [path]
    assert folder.find("Lung\u00e9/Lung\u00e9") == path
    assert folder.find("Lung\u00e8/Lung\u00e9") is None
    other = "Lung\u00e9" if name != "Lung\u00e9" else "Lunge\u0301"
    write(tmp_path / name, "", f"{other}{ending}")
    with pytest.raises(DataError, match="differ only in Unicode form"):
        folder.find("Lung\u00e9/Lung\u00e9")


def test_a_lesion_names_the_classes_that_it_was_drawn_as(tmp_path: Path) -> None:
    near = [(300, 200), (500, 200), (500, 400), (300, 400)]
    far = [(2000, 100), (2100, 100), (2100, 200)]
    text = files.asap(("Polygon", "Tumor", BOX), ("Polygon", "_1", near), ("Polygon", "Metastasis", far))
    found = known_lesions(write(tmp_path, text), "s", INFO, RULES)
    assert sorted(lesion.sources for lesion in found) == [("Metastasis",), ("Tumor", "_1")]
