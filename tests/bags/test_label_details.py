"""Details of labels and splits: scales of a row, the centres of Camelyon17, a split that is read back."""

from pathlib import Path

import pytest

from wsi_mil.bags import Split, SplitSpec, make_split, read_labels
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError


@pytest.mark.parametrize("only", ["mpp_x", "mpp_y"])
def test_one_scale_of_two_is_refused(tmp_path: Path, only: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"slide,label,{only}\na,0,0.25\nb,1,\n")
    with pytest.raises(DataError, match="mpp_x and mpp_y must both be given"):
        read_labels(path)


def test_several_mistakes_stand_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("slide,label\na,0\na,1\nb,0\nb,1\n")
    with pytest.raises(DataError, match=r"'a' has 2 rows[^;]*; [^;]*'b' has 2 rows"):
        read_labels(path)


@pytest.mark.parametrize(
    ("patient", "centre"), [(0, "0"), (19, "0"), (20, "1"), (99, "4"), (100, "0"), (135, "1"), (199, "4")]
)
def test_camelyon17_has_twenty_patients_of_a_centre_in_each_half(
    tmp_path: Path, patient: int, centre: str
) -> None:
    path = tmp_path / "stage_labels.csv"
    path.write_text(f"patient,stage\npatient_{patient:03d}.zip,pN0\npatient_{patient:03d}_node_1.tif,macro\n")
    assert read_labels(path).rows[f"patient_{patient:03d}_node_1"].centre == centre


def test_a_split_is_read_back_with_its_repeats_and_seeds(tmp_path: Path) -> None:
    rows = [SlideLabel(f"s{i}", i % 2, f"p{i}") for i in range(24)]
    split = make_split(rows, SplitSpec(repeats=2, seeds=3))
    assert sorted({(fold.repeat, fold.seed_number) for fold in split.folds}) == [
        (repeat, seed) for repeat in range(2) for seed in range(3)
    ]
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split
