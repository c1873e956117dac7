"""MNIST and bags of its digits, as Ilse et al. (2018) and Shi et al. (2020) describe them."""

import gzip
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.contracts.bags import Bag
from wsi_mil.errors import DataError

MEAN, DEVIATION = 0.1307, 0.3081
MULTI_CLASS_TARGETS = (3, 5, 9)


@dataclass(frozen=True)
class Digits:
    """Images (N, 28, 28) uint8 and their digits (N,)."""

    images: NDArray[np.uint8]
    digits: NDArray[np.uint8]

    @classmethod
    def load(cls, folder: Path, part: str) -> "Digits":
        """Return one part of MNIST, 'train' or 't10k', from its gzipped idx files.

        Raises DataError without them.
        """
        return cls(
            read_idx(folder / f"{part}-images-idx3-ubyte.gz"),
            read_idx(folder / f"{part}-labels-idx1-ubyte.gz"),
        )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of a gzipped idx file of bytes.

    Raises DataError if it is missing, cut short or of another type.
    """
    if not path.exists():
        raise DataError(f"no {path.name} in {path.parent}: give the folder with MNIST's four idx files")
    data = gzip.decompress(path.read_bytes())
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, offset=4).tolist()
    if data[:3] != b"\0\0\x08" or math.prod(shape) != len(data) - 4 - 4 * dimensions:
        raise DataError(f"{path} is no idx file of bytes, or it is cut short")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def draw_bags(
    digits: Digits, count: int, classes: int, rng: np.random.Generator, *, in_turn: bool = False
) -> list[Bag]:
    """Return bags of int(Normal(10, 2)) images, at least one. No image occurs twice in a bag.

    classes 2: the label is 1 if the bag has a 9, which holds for 63 of 100 bags. classes 4: two of the digits
    3, 5, 9 are removed from the pool of each bag. The label is 1, 2 or 3 for the remaining one of 3, 5, 9 if
    the bag has it, else 0. in_turn: negative and positive bags alternate, as in a second loader of Ilse et
    al.; bags are drawn again until they do. Instance labels are 1 for target digits.
    """
    bags: list[Bag] = []
    while len(bags) < count:
        length = max(int(rng.normal(10, 2)), 1)
        targets: tuple[int, ...] = (9,)
        pool = np.arange(len(digits.digits))
        if classes > 2:
            out = rng.choice(MULTI_CLASS_TARGETS, 2, replace=False)
            pool = pool[~np.isin(digits.digits, out)]
            targets = MULTI_CLASS_TARGETS
        bag = bag_of(digits, rng.choice(pool, length, replace=False), targets, f"bag_{len(bags):04d}")
        if not in_turn or bag.label == len(bags) % 2:
            bags.append(bag)
    return bags


def bag_of(digits: Digits, rows: NDArray[np.int64], targets: tuple[int, ...], name: str) -> Bag:
    """Return the bag of the images `rows`: normalised pixels (n, 784).

    The label is the position, from 1, in `targets` of the target digit in the bag (of several the last one),
    0 without one.
    """
    found = digits.digits[rows]
    label = max((targets.index(d) + 1 for d in found.tolist() if d in targets), default=0)
    pixels = (torch.from_numpy(digits.images[rows]).float().flatten(1) / 255 - MEAN) / DEVIATION
    return Bag(name, pixels, label, instance_labels=torch.from_numpy(np.isin(found, targets)).long())
