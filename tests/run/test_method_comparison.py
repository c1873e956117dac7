"""Methods of a run folder: which trainings are paired, and what methods.json holds."""

from pathlib import Path

import pytest

from wsi_mil.bags.splits import Fold, Split, SplitSpec
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation.methods import compare_trainings
from wsi_mil.io.json import read_json
from wsi_mil.io.tables import write_csv
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.method_comparison import compare_methods, method_table, write_methods

VALUES = {"a": [0.9, 0.8, 0.7, 0.9], "b": [0.7, 0.7, 0.6, 0.5], "c": [0.9, 0.7, 0.7, 0.85]}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two splits with two seeds each: 4 slides for training and validation, 2 for test."""
    folder = RunFolder(tmp_path)
    parts = [(("s0", "s1", "s2"), ("s3",), ("s4", "s5")), (("s2", "s3", "s4"), ("s5",), ("s0", "s1"))]
    folds = tuple(Fold(*part, repeat=0, seed_number=seed) for seed in (0, 1) for part in parts)
    Split(SplitSpec(kind="kfold", folds=2, seeds=2), folds).save(folder.split)
    rows = [
        {"model": name, "fold": fold, "test_auc": value}
        for name, values in VALUES.items()
        for fold, value in enumerate(values)
    ]
    write_csv(folder.comparison, ["model", "fold", "test_auc"], rows)
    return folder


def test_trainings_are_paired_by_fold_and_averaged_over_seeds(run: RunFolder) -> None:
    found = compare_methods(run, ["a", "b"])
    assert found.test_to_train == 0.5
    [pair] = found.pairs
    expected = compare_trainings(VALUES["a"], VALUES["b"], ["x", "y", "x", "y"], 0.5)
    assert (pair.difference.splits, pair.difference.trainings) == (2, 4)
    assert pair.difference.difference == pytest.approx((0.2 + 0.4 + 0.1 + 0.1) / 4) == expected.difference
    assert pair.difference.p_two_sided == expected.p_two_sided == pair.difference.p_holm


def test_the_family_is_every_pair(run: RunFolder) -> None:
    found = write_methods(run, ["a", "b", "c"])
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    ordered = sorted(found.pairs, key=lambda pair: pair.difference.p_two_sided)
    assert ordered[0].difference.p_holm == pytest.approx(min(3 * ordered[0].difference.p_two_sided, 1))
    written = read_json(run.comparison.with_name("methods.json"))
    assert (written["kind"], written["metric"], len(written["pairs"])) == ("method comparison", "auc", 3)
    assert written["pairs"][0]["models"] == ["a", "b"]
    assert method_table(found)[1][:3] == ["a - b", "0.825, 0.625", "+0.200"]


def test_what_is_missing_is_said(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training of 'x'"):
        compare_methods(run, ["a", "x"])
    with pytest.raises(StoreError, match="run `wsi-mil train` first"):
        compare_methods(RunFolder(tmp_path / "other"), ["a", "b"])
