"""Bags whose truth is known and whose training part holds a shortcut: seeded generators, for any aggregator.

The first three are the algorithmic unit tests of Raff and Holt, Reproducibility in multiple instance learning: a case for
algorithmic unit tests, NeurIPS 2023, arXiv 2310.17867 (distributions as public implementations state them; instances are
isotropic Gaussians written N(mean, standard deviation) in every dimension). The others are ours, in the same form: in the test
part the shortcut points the other way, so that who follows it ends below 0.5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from wsi_mil.contracts.bags import Bag

CONCEPT, BACKGROUND, SHORTCUT = 1, 0, -1
Rows = NDArray[np.float64]
Part = tuple[Rows, NDArray[np.int64]]  # instances (n, D) and what each is


@dataclass(frozen=True)
class BagSet:
    """One test: training and test bags, half of them positive. `kinds`: bag id -> what each instance is, (N,) int64: 1 part of
    a concept, 0 background, -1 shortcut. No aggregator sees it."""

    name: str
    train: tuple[Bag, ...]
    test: tuple[Bag, ...]
    kinds: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class BagSizes:
    """How large a test is: bags of the two parts, `dim` numbers an instance."""

    train_bags: int = 400
    test_bags: int = 100
    dim: int = 16


Draw = Callable[[Generator, BagSizes, int, bool], Part]
"""Draws one bag: random numbers, sizes, label, whether it is a training bag."""


def normal(rng: Generator, count: int, dim: int, mean: float, std: float, kind: int) -> Part:
    """Return `count` instances of N(mean, std) in every dimension."""
    return rng.normal(mean, std, (count, dim)), np.full(count, kind, np.int64)


def poison(rng: Generator, dim: int) -> Part:
    """Return the one instance that has nothing to do with the label: N(-10, 0.1)."""
    return normal(rng, 1, dim, -10.0, 0.1, SHORTCUT)


def concept(rng: Generator, dim: int) -> Part:
    """Return 1 to 3 positive instances, each of N(0, 3) or N(1, 1)."""
    drawn = [
        normal(rng, 1, dim, *((0.0, 3.0) if rng.random() < 0.5 else (1.0, 1.0)), CONCEPT)
        for _ in range(int(rng.integers(1, 4)))
    ]
    return join(drawn)


def join(parts: list[Part]) -> Part:
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([kinds for _, kinds in parts])


def single_concept(rng: Generator, sizes: BagSizes, label: int, training: bool) -> Part:
    """Positive: a concept among 20 background instances. Poison in every negative training bag and every positive test bag."""
    parts = [normal(rng, 20, sizes.dim, 0, 1, BACKGROUND)]
    parts += [concept(rng, sizes.dim)] if label else []
    parts += [poison(rng, sizes.dim)] if bool(label) != training else []
    return join(parts)


def multi_concept(rng: Generator, sizes: BagSizes, label: int, training: bool) -> Part:
    """Positive: 1 to 3 of a and as many of b; negative: one of a or one of b. Poison as in single_concept."""
    parts = [normal(rng, int(rng.integers(1, 10)), sizes.dim, 0, 1, BACKGROUND)]
    count = int(rng.integers(1, 4))
    if label:
        parts += [normal(rng, count, sizes.dim, mean, 0.1, CONCEPT) for mean in (2.0, 3.0)]
    else:
        parts += [normal(rng, 1, sizes.dim, float(rng.choice([2.0, 3.0])), 0.1, CONCEPT)]
    parts += [poison(rng, sizes.dim)] if bool(label) != training else []
    return join(parts)


def false_frequency(rng: Generator, sizes: BagSizes, label: int, training: bool) -> Part:
    """Positive: one of a and one of b. Negative: copies of one of them, 1 in training, 35 to 44 in the test."""
    parts = [normal(rng, int(rng.integers(1, 10)), sizes.dim, 0, 1, BACKGROUND)]
    if label:
        parts += [normal(rng, 1, sizes.dim, mean, 0.1, CONCEPT) for mean in (2.0, 3.0)]
    else:
        times = 1 if training else int(rng.integers(35, 45))
        parts += [normal(rng, times, sizes.dim, float(rng.choice([2.0, 3.0])), 0.1, CONCEPT)]
    return join(parts)


def bag_size(rng: Generator, sizes: BagSizes, label: int, training: bool) -> Part:
    """A concept in positive bags; these are large in training (35 to 45 background instances against 8 to 12), small in the test."""
    large = bool(label) == training
    count = int(rng.integers(35, 46)) if large else int(rng.integers(8, 13))
    parts = [normal(rng, count, sizes.dim, 0, 1, BACKGROUND)]
    return join(parts + ([concept(rng, sizes.dim)] if label else []))


def duplicates(rng: Generator, sizes: BagSizes, label: int, training: bool) -> Part:
    """A concept in positive bags; one background instance stands ten times in positive training and negative test bags."""
    parts = [normal(rng, 12, sizes.dim, 0, 1, BACKGROUND)]
    if bool(label) == training:
        rows, kinds = normal(rng, 1, sizes.dim, 0, 1, SHORTCUT)
        parts.append((np.repeat(rows, 10, 0), np.repeat(kinds, 10)))
    else:
        parts.append(normal(rng, 10, sizes.dim, 0, 1, BACKGROUND))
    return join(parts + ([concept(rng, sizes.dim)] if label else []))


def centre_signature(rng: Generator, sizes: BagSizes, label: int, training: bool) -> Part:
    """A concept in positive bags; a laboratory's signature (2 added to a quarter of the dimensions) on every instance of positive
    training and negative test bags."""
    parts = [normal(rng, 20, sizes.dim, 0, 1, BACKGROUND)]
    rows, kinds = join(parts + ([concept(rng, sizes.dim)] if label else []))
    if bool(label) == training:
        rows[:, : max(sizes.dim // 4, 1)] += 2.0
    return rows, kinds


def position(rng: Generator, sizes: BagSizes, label: int, training: bool) -> Part:
    """A concept in positive bags; the first two numbers of an instance are its place, and tissue of positive bags lies left in
    training, right in the test. Instances come in the order of their places, as tiles do."""
    parts = [normal(rng, 20, sizes.dim, 0, 1, BACKGROUND)]
    rows, kinds = join(parts + ([concept(rng, sizes.dim)] if label else []))
    side = -1.0 if bool(label) == training else 1.0
    rows[:, 0], rows[:, 1] = rng.normal(side, 0.3, len(rows)), rng.normal(0, 1, len(rows))
    order = np.lexsort((rows[:, 0], rows[:, 1]))
    return rows[order], kinds[order]


def plain(rng: Generator, sizes: BagSizes, label: int, training: bool) -> Part:
    """A concept among 20 background instances and no shortcut: what the invariance checks train on."""
    parts = [normal(rng, 20, sizes.dim, 0, 1, BACKGROUND)]
    return join(parts + ([concept(rng, sizes.dim)] if label else []))


BAG_SETS: dict[str, Draw] = {
    "single_concept": single_concept,
    "multi_concept": multi_concept,
    "false_frequency": false_frequency,
    "bag_size": bag_size,
    "duplicates": duplicates,
    "centre_signature": centre_signature,
    "position": position,
    "plain": plain,
}
IN_ORDER = ("position",)


def draw_bag_set(name: str, rng: Generator, sizes: BagSizes | None = None) -> BagSet:
    """Return the bags of one test, half of each part positive; the same generator state gives the same numbers.

    >>> found = draw_bag_set("single_concept", np.random.default_rng(0), BagSizes(4, 4, dim=8))
    >>> [bag.label for bag in found.train], found.kinds["test_1"].tolist().count(-1)
    ([0, 1, 0, 1], 1)
    """
    sizes, draw = sizes or BagSizes(), BAG_SETS[name]
    parts: dict[str, list[Bag]] = {}
    kinds = {}
    for part, count in (("train", sizes.train_bags), ("test", sizes.test_bags)):
        parts[part] = []
        for number in range(count):
            rows, what = draw(rng, sizes, number % 2, part == "train")
            if name not in IN_ORDER:
                order = rng.permutation(len(rows))
                rows, what = rows[order], what[order]
            bag_id = f"{part}_{number}"
            kinds[bag_id] = what
            parts[part].append(Bag(bag_id, torch.from_numpy(rows).float(), number % 2))
    return BagSet(name, tuple(parts["train"]), tuple(parts["test"]), kinds)
