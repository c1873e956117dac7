"""Readers for the classic MIL benchmarks (MUSK, Fox, Tiger, Elephant) in three file formats.

.mat   a PRTools data set as written by its MIL toolbox (`x.data`, `x.nlab`, `x.ident.milbag`), or a cell
array with
       one row per bag: instances and label
.csv   one row per instance: bag label, bag number, features; no header
.npz   X (N, D), bag (N,) indices, bag_label (B,), bag_name (B,)
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from wsi_mil.contracts.bags import Bag
from wsi_mil.errors import DataError

Table = tuple[NDArray[np.float64], NDArray[np.int64], dict[int, int]]


def read_classic(path: Path) -> list[Bag]:
    """Return the bags of a file in the order of their numbers: float32 features, label 1 for positive.

    Raises DataError for a missing file, another ending, and content that is not bags with labels 0 (or -1)
    and 1.
    """
    readers = {".mat": _from_mat, ".csv": _from_csv, ".npz": _from_npz}
    if path.suffix not in readers:
        raise DataError(f"{path.name}: expected a .mat, .csv or .npz file of bags")
    if not path.exists():
        raise DataError(f"no file {path}")
    features, bag_of_row, labels = readers[path.suffix](path)
    if set(labels.values()) - {0, 1}:
        raise DataError(
            f"{path.name}: bag labels must be 0 (or -1) and 1, found {sorted(set(labels.values()))}"
        )
    values = torch.from_numpy(features).float()
    if not torch.isfinite(values).all():
        raise DataError(f"{path.name}: features hold NaN or infinity")
    return [Bag(f"bag_{number}", values[bag_of_row == number], labels[number]) for number in sorted(labels)]


def divide(bags: Sequence[Bag], shares: tuple[float, float], seed: int) -> dict[str, list[Bag]]:
    """Return the bags of "train", "val" and "test" in a random division; classes keep their proportions.

    shares: of training and validation bags; the rest is for testing. Counts of test and validation bags are
    rounded up.
    """
    n_val, n_test = (math.ceil(round(len(bags) * share, 6)) for share in (shares[1], 1 - sum(shares)))
    rest, test = train_test_split(
        list(bags), test_size=n_test, stratify=[bag.label for bag in bags], random_state=seed
    )
    train, val = train_test_split(
        rest, test_size=n_val, stratify=[bag.label for bag in rest], random_state=seed
    )
    return {"train": train, "val": val, "test": test}


def _from_csv(path: Path) -> Table:
    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise DataError(
            f"{path.name}: expected numbers (bag label, bag number, features...): {error}"
        ) from error
    return _table(path, rows[:, 2:], rows[:, 1], rows[:, 0])


def _from_npz(path: Path) -> Table:
    with np.load(path, allow_pickle=False) as file:
        missing = {"X", "bag", "bag_label"} - set(file.files)
        if missing:
            raise DataError(f"{path.name} lacks {', '.join(sorted(missing))}: expected X, bag and bag_label")
        return _table(path, file["X"], file["bag"], file["bag_label"][file["bag"]])


def _from_mat(path: Path) -> Table:
    from scipy.io import loadmat

    values: dict[str, Any] = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    for value in values.values():
        names = value.dtype.names or ()
        if {"data", "nlab", "ident"} <= set(names):
            found = value[0, 0]
            names_of_labels = [str(np.asarray(n).item()).strip() for n in found["lablist"][0, 0].ravel()]
            positive = names_of_labels.index("positive") + 1  # MATLAB counts from 1
            bags = found["ident"]["milbag"][0, 0].ravel()
            return _table(path, found["data"], bags, found["nlab"].ravel() == positive)
        if value.dtype == object and value.ndim == 2 and value.shape[1] == 2:
            sizes = [len(row) for row in value[:, 0]]
            labels = [int(np.asarray(label).item()) for label in value[:, 1]]
            return _table(
                path,
                np.concatenate(list(value[:, 0])),
                np.repeat(range(len(sizes)), sizes),
                np.repeat(labels, sizes),
            )
    raise DataError(
        f"{path.name}: neither a PRTools MIL data set nor a cell array of bags; it holds {sorted(values)}"
    )


def _table(path: Path, features: NDArray[Any], bag_of_row: NDArray[Any], label_of_row: NDArray[Any]) -> Table:
    """Check the sizes; return features, bag numbers and labels by bag number.

    A bag is positive if one of its rows is, because PRTools stores the labels of instances.
    """
    bags = bag_of_row.astype(np.int64)
    if len(features) != len(bags) or len(bags) != len(label_of_row):
        raise DataError(
            f"{path.name}: {len(features)} instances, {len(bags)} bag numbers, {len(label_of_row)} labels"
        )
    labels = {int(number): int(max(label_of_row[bags == number].max(), 0)) for number in np.unique(bags)}
    return np.asarray(features, np.float64), bags, labels
