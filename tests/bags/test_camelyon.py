"""Camelyon's label files, in the forms that their owners publish."""

from pathlib import Path

import pytest

from wsi_mil.bags import SplitSpec, make_split, read_labels
from wsi_mil.bags.camelyon import read_stages
from wsi_mil.errors import DataError


def test_reference_csv_of_camelyon16(tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    path.write_text("test_001,Tumor,IDC,Macro\ntest_002.tif,Tumor,IDC,Micro\ntest_003,Normal,None,None\n")
    table = read_labels(path)
    assert table.class_names == ("normal", "tumor")
    assert {k: (row.label, row.split) for k, row in table.rows.items()} == {
        "test_001": (1, "test"),
        "test_002": (1, "test"),
        "test_003": (0, "test"),
    }
    path.write_text("test_001,Tumor\ntest_002,maybe\n")
    with pytest.raises(DataError, match=r"reference.csv, line 2: expected `slide,Normal`"):
        read_labels(path)


def test_stage_labels_of_camelyon17(tmp_path: Path) -> None:
    path = tmp_path / "stage_labels.csv"
    lines = ["patient,stage"]
    for patient in range(100):
        lines.append(f"patient_{patient:03d}.zip,pN{patient % 3}")
        lines += [
            f"patient_{patient:03d}_node_{n}.tif,{('negative', 'itc', 'micro', 'macro')[(patient + n) % 4]}"
            for n in range(2)
        ]
    path.write_text("\n".join(lines) + "\n")
    table = read_labels(path)
    assert table.class_names == ("negative", "itc", "micro", "macro")
    row = table.rows["patient_061_node_1"]
    assert (row.label, row.patient, row.centre) == (2, "patient_061", "3")
    two = read_labels(path, ("normal", "tumor"))
    assert [two.rows[f"patient_00{i}_node_0"].label for i in range(4)] == [0, 1, 1, 1]
    assert read_stages(path)["patient_005"] == "pN2"
    split = make_split(list(two.rows.values()), SplitSpec(kind="centre", test_centres=("3", "4"))).folds[0]
    assert {name[8:11] for name in split.test} == {f"{i:03d}" for i in range(60, 100)}
    path.write_text("patient,stage\npatient_000_node_0.tif,large\n")
    with pytest.raises(DataError, match=r"line 2: expected `patient_000_node_0\.tif,`"):
        read_labels(path)
    path.write_text(lines[0])
    with pytest.raises(DataError, match=r"give slides\.class_names of two or of all"):
        read_labels(path, ("a", "b", "c"))
