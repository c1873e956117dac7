"""The classic benchmarks: each form gives the same bags, real files the published counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from pipelines.classic.bags import read_classic
from wsi_mil.errors import DataError

FEATURES = np.arange(24, dtype=float).reshape(6, 4)
BAGS, LABELS = np.array([7, 7, 2, 2, 2, 5]), np.array([1, 1, 0, 0, 0, 1])


def check(path: Path) -> None:
    bags = read_classic(path)
    assert [(bag.label, len(bag)) for bag in bags] == [(0, 3), (1, 1), (1, 2)]
    assert torch.equal(bags[0].features, torch.from_numpy(FEATURES[2:5]).float())
    assert torch.equal(bags[2].features, torch.from_numpy(FEATURES[:2]).float())


def test_every_form_gives_the_same_bags(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.csv", np.column_stack([LABELS, BAGS, FEATURES]), delimiter=",")
    check(tmp_path / "a.csv")
    index = np.array([2, 2, 0, 0, 0, 1])
    np.savez(tmp_path / "a.npz", X=FEATURES, bag=index, bag_label=np.array([0, 1, 1]))
    check(tmp_path / "a.npz")
    cells = np.empty((3, 2), object)
    cells[:, 0] = [FEATURES[2:5], FEATURES[5:], FEATURES[:2]]
    cells[:, 1] = [np.array([[-1]]), np.array([[1]]), np.array([[1]])]
    savemat(tmp_path / "cells.mat", {"data": cells})
    check(tmp_path / "cells.mat")


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        read_classic(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"expected a \.mat"):
        read_classic(tmp_path / "a.arff")
    (tmp_path / "words.csv").write_text("label,bag\nx,y\n")
    with pytest.raises(DataError, match=r"words\.csv: expected numbers"):
        read_classic(tmp_path / "words.csv")
    (tmp_path / "labels.csv").write_text("3,1,0.5\n0,2,0.5\n")
    with pytest.raises(DataError, match="must be 0"):
        read_classic(tmp_path / "labels.csv")
    np.savez(tmp_path / "half.npz", X=FEATURES)
    with pytest.raises(DataError, match="lacks bag, bag_label"):
        read_classic(tmp_path / "half.npz")
    savemat(tmp_path / "other.mat", {"y": np.zeros(3)})
    with pytest.raises(DataError, match="neither a PRTools"):
        read_classic(tmp_path / "other.mat")


@pytest.mark.parametrize(
    ("one", "other", "bags", "instances", "dim"),
    [
        ("musk1.csv", "musk1.npz", 92, 476, 166),
        ("fox.mat", "fox.npz", 200, 1320, 230),
        ("tiger.mat", "tiger.npz", 200, 1220, 230),
        ("musk2.npz", "musk2.npz", 102, 6598, 166),
    ],
)
def test_real_files(data_folder: Path, one: str, other: str, bags: int, instances: int, dim: int) -> None:
    first, second = (read_classic(data_folder / "mil_classic" / name) for name in (one, other))
    assert (len(first), sum(map(len, first)), first[0].dim) == (bags, instances, dim)
    for a, b in zip(first, second, strict=True):
        assert a.label == b.label
        assert torch.equal(a.features, b.features)
