"""What a bag test is, and the draws that several tests share.

A bag test generates bags whose labels follow from known instances, and adds a shortcut: a signal that goes
with the label in the training bags, and with the opposite label in the test bags. A model that uses the
shortcut has a test AUC below 0.5. single_concept, multi_concept and false_frequency are those of Raff and
Holt, Reproducibility in multiple instance learning: a case for algorithmic unit tests, NeurIPS 2023, arXiv
2310.17867, with the distributions of public implementations. The others have the same form. N(m, s) is a
Gaussian of mean m and standard deviation s in every dimension.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from wsi_mil.contracts.bags import Bag

CONCEPT, BACKGROUND, SHORTCUT = 1, 0, -1
PASS_AUC, KEPT_SHARE = 0.75, 0.9
Instances = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Instances (n, D), and the kind of each (n,): CONCEPT, BACKGROUND or SHORTCUT."""


@dataclass(frozen=True)
class BagSizes:
    """The size of a test: numbers of bags in its two parts, and dimensions of an instance."""

    train_bags: int = 400
    test_bags: int = 100
    dim: int = 16


@dataclass(frozen=True)
class BagSet:
    """Training and test bags, half of each positive. kinds: bag id -> kind of each instance (N,); models
    never see it.
    """

    train: tuple[Bag, ...]
    test: tuple[Bag, ...]
    kinds: dict[str, NDArray[np.int64]]


class BagTest(ABC):
    """One test. Subclasses derive from `ShortcutTest` or `InvarianceTest`."""

    order: ClassVar[int]
    """Tests with a lower number come first in tables."""
    description: ClassVar[str]
    """One line for people."""
    held_against: ClassVar[bool] = True
    """Whether failing this test fails the audit: true for what the multiple-instance assumption demands.
    Shortcuts of the bag as a whole are only reported, since no pooling rule can exclude them.
    """
    pass_from: ClassVar[float]
    """The smallest measured value that passes."""
    shuffled: ClassVar[bool] = True
    """Whether the instances of a bag are shuffled after `draw`."""

    @abstractmethod
    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        """Return one bag of the label (0 or 1), for the training or the test part."""


class ShortcutTest(BagTest):
    """Measured by the AUC of the test bags, in which the shortcut goes with the opposite label."""

    pass_from = PASS_AUC


class MirroredTest(ShortcutTest):
    """A shortcut test with the classes exchanged in the shortcut: what goes with negative bags in training
    there goes with positive ones here.

    Where the shortcut is a kind of instance of its own, positive bags of the training part hold it and
    negative ones do not, so it defines the label as well as the concept does. The multiple-instance
    assumption does not exclude it, and such a test is reported only.
    """

    mirrored: ClassVar[ShortcutTest]

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        """Return a bag of the mirrored test's other part, where the shortcut goes with the other label."""
        return self.mirrored.draw(rng, sizes, label, not training)


class InvarianceTest(BagTest):
    """Bags without a shortcut. Measured by the fraction of positive test bags, among those that the model
    calls positive, whose call is right after a change.
    """

    pass_from = KEPT_SHARE

    def draw(self, rng: Generator, sizes: BagSizes, label: int, training: bool) -> Instances:
        """Return 20 background instances, and a concept in a positive bag."""
        return join([normal(rng, 20, sizes.dim, 0, 1, BACKGROUND), *concept(rng, sizes.dim, label)])

    @abstractmethod
    def change(self, instances: Instances, rng: Generator) -> NDArray[np.float64]:
        """Return the instances (n, D) of a positive bag after the change."""

    @abstractmethod
    def fraction(self, positive: NDArray[np.bool_], specificity: float) -> float:
        """Return the fraction of right calls. positive (n,): which changed bags are still called positive;
        specificity: the fraction of negative test bags that are called negative."""


def normal(rng: Generator, count: int, dim: int, mean: float, std: float, kind: int) -> Instances:
    """Return `count` instances of N(mean, std)."""
    return rng.normal(mean, std, (count, dim)), np.full(count, kind, np.int64)


def concept(rng: Generator, dim: int, label: int) -> list[Instances]:
    """Return what makes a bag positive: 1 to 3 instances, each of N(0, 3) or N(1, 1); nothing for label 0."""
    if not label:
        return []
    drawn = [
        normal(rng, 1, dim, *((0.0, 3.0) if rng.random() < 0.5 else (1.0, 1.0)), CONCEPT)
        for _ in range(int(rng.integers(1, 4)))
    ]
    return [join(drawn)]


def outlier(rng: Generator, dim: int) -> Instances:
    """Return the shortcut of Raff and Holt: one instance of N(-10, 0.1)."""
    return normal(rng, 1, dim, -10.0, 0.1, SHORTCUT)


def join(parts: Sequence[Instances]) -> Instances:
    """Return the instances of all parts, one part after the other."""
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([kinds for _, kinds in parts])


def draw_bag_set(test: BagTest, rng: Generator, sizes: BagSizes | None = None) -> BagSet:
    """Return the bags of a test; equal generator states give equal numbers.

    >>> from wsi_mil.robustness.audit.bag_tests import load_bag_test
    >>> found = draw_bag_set(load_bag_test("single_concept"), np.random.default_rng(0), BagSizes(4, 4, dim=8))
    >>> [bag.label for bag in found.train], found.kinds["test_1"].tolist().count(-1)
    ([0, 1, 0, 1], 1)
    """
    sizes = sizes or BagSizes()
    parts: dict[str, list[Bag]] = {"train": [], "test": []}
    kinds = {}
    for part, count in (("train", sizes.train_bags), ("test", sizes.test_bags)):
        for number in range(count):
            rows, kind = test.draw(rng, sizes, number % 2, part == "train")
            if test.shuffled:
                order = rng.permutation(len(rows))
                rows, kind = rows[order], kind[order]
            bag_id = f"{part}_{number}"
            kinds[bag_id] = kind
            parts[part].append(Bag(bag_id, torch.from_numpy(rows).float(), number % 2))
    return BagSet(tuple(parts["train"]), tuple(parts["test"]), kinds)
