"""Bags with a known shortcut: the same numbers for the same seed, and the distributions that are promised."""

import numpy as np
import pytest
import torch

from wsi_mil.robustness.audit.bag_tests import bag_test_names, load_bag_test
from wsi_mil.robustness.audit.bag_tests.base import (
    BACKGROUND,
    CONCEPT,
    SHORTCUT,
    BagSet,
    BagSizes,
    draw_bag_set,
)

SIZES = BagSizes(train_bags=400, test_bags=400, dim=12)
GOLDEN_LENGTH, GOLDEN_ROW = 21, [-0.75837, 1.420982, 0.726094, 0.843733]
SHORTCUT_TESTS = ("single_concept", "multi_concept")


def drawn(name: str, seed: int = 0, sizes: BagSizes = SIZES) -> BagSet:
    return draw_bag_set(load_bag_test(name), np.random.default_rng(seed), sizes)


def rows_of(found: BagSet, part: str, kind: int, label: int | None = None) -> np.ndarray:
    """All instances of a kind in the bags of a part (and label), (n, D)."""
    bags = [bag for bag in getattr(found, part) if label is None or bag.label == label]
    return np.concatenate([bag.features.numpy()[found.kinds[bag.slide_id] == kind] for bag in bags])


def counts_of(found: BagSet, part: str, kind: int, label: int) -> np.ndarray:
    return np.array(
        [(found.kinds[b.slide_id] == kind).sum() for b in getattr(found, part) if b.label == label]
    )


@pytest.mark.parametrize("name", bag_test_names())
def test_the_seed_decides_every_value(name: str) -> None:
    small = BagSizes(20, 10, 8)
    one, same, other = drawn(name, 3, small), drawn(name, 3, small), drawn(name, 4, small)
    for a, b in zip((*one.train, *one.test), (*same.train, *same.test), strict=True):
        assert torch.equal(a.features, b.features)
        assert a.label == b.label
        np.testing.assert_array_equal(one.kinds[a.slide_id], same.kinds[b.slide_id])
    assert any(
        len(a) != len(b) or not torch.equal(a.features, b.features)
        for a, b in zip(one.train, other.train, strict=True)
    )


def test_what_was_drawn_does_not_change_between_versions() -> None:
    """Golden values: a figure of the studies can be drawn again only if the generators stay as they are."""
    bag = drawn("single_concept", 0, BagSizes(2, 2, 4)).train[1]
    assert bag.label == 1
    assert len(bag) == GOLDEN_LENGTH
    np.testing.assert_allclose(bag.features[0].numpy(), GOLDEN_ROW, atol=1e-6)


@pytest.mark.parametrize("name", bag_test_names())
def test_half_of_the_bags_are_positive_and_hold_the_concept(name: str) -> None:
    found = drawn(name)
    for part in ("train", "test"):
        assert np.mean([bag.label for bag in getattr(found, part)]) == 0.5
        assert (counts_of(found, part, CONCEPT, 1) >= 1).all()
        if name not in ("multi_concept", "multi_concept_mirrored", "false_frequency"):
            assert (counts_of(found, part, CONCEPT, 0) == 0).all()
        assert all(bag.instance_labels is None for bag in getattr(found, part)), (
            "no aggregator may see the truth"
        )


def test_background_is_standard_normal_in_every_dimension() -> None:
    rows = rows_of(drawn("single_concept"), "train", BACKGROUND)
    assert len(rows) == 400 * 20
    np.testing.assert_allclose(rows.mean(0), 0, atol=5 / np.sqrt(len(rows)))
    np.testing.assert_allclose(rows.std(0), 1, atol=0.04)


def test_single_concept() -> None:
    """1 to 3 positive instances, half N(0, 3) and half N(1, 1); one poison N(-10, 0.1), negative in training,
    positive in the test.
    """
    found = drawn("single_concept")
    counts = counts_of(found, "train", CONCEPT, 1)
    assert set(counts) == {1, 2, 3}
    assert counts.mean() == pytest.approx(2.0, abs=0.2)
    rows = rows_of(found, "train", CONCEPT)
    wide = (rows**2).mean(1) > 4  # N(0, 3) has 9 there, N(1, 1) has 2
    assert wide.mean() == pytest.approx(0.5, abs=0.08)
    assert rows[wide].mean() == pytest.approx(0, abs=0.25)
    assert rows[wide].std() == pytest.approx(3, abs=0.2)
    assert rows[~wide].mean() == pytest.approx(1, abs=0.1)
    assert rows[~wide].std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", SHORTCUT_TESTS)
def test_poison_changes_sides(name: str) -> None:
    found = drawn(name)
    for part, poisoned in (("train", 0), ("test", 1)):
        assert (counts_of(found, part, SHORTCUT, poisoned) == 1).all()
        assert (counts_of(found, part, SHORTCUT, 1 - poisoned) == 0).all()
        rows = rows_of(found, part, SHORTCUT)
        assert rows.mean() == pytest.approx(-10, abs=0.02)
        assert rows.std() == pytest.approx(0.1, abs=0.01)


def test_multi_concept() -> None:
    """As many of a N(2, 0.1) as of b N(3, 0.1), 1 to 3 of each; negative bags hold one of either, as often
    the one as the other.
    """
    found = drawn("multi_concept")
    for bag in found.train:
        rows = bag.features.numpy()[found.kinds[bag.slide_id] == CONCEPT].mean(1)
        a, b = (np.abs(rows - mean) < 0.3 for mean in (2, 3))
        assert (a | b).all()
        if bag.label:
            assert a.sum() == b.sum()
            assert 1 <= a.sum() <= 3
        else:
            assert len(rows) == 1
    means = rows_of(found, "train", CONCEPT, 0).mean(1)
    assert (means > 2.5).mean() == pytest.approx(0.5, abs=0.12)
    background = np.concatenate([counts_of(found, "train", BACKGROUND, label) for label in (0, 1)])
    assert (background.min(), background.max()) == (1, 9)
    assert background.mean() == pytest.approx(5, abs=0.4)


def test_false_frequency() -> None:
    found = drawn("false_frequency")
    assert (counts_of(found, "train", CONCEPT, 0) == 1).all()
    copies = counts_of(found, "test", CONCEPT, 0)
    assert (copies.min(), copies.max()) == (35, 44)
    assert copies.mean() == pytest.approx(39.5, abs=0.7)
    for bag in found.test[:40]:
        means = bag.features.numpy()[found.kinds[bag.slide_id] == CONCEPT].mean(1)
        if not bag.label:
            assert np.ptp(means) < 0.5, "copies of one concept, not of both"
        else:
            assert np.sort(means) == pytest.approx([2, 3], abs=0.2)
    assert (counts_of(found, "test", CONCEPT, 1) == 2).all()


def test_bag_size_changes_sides() -> None:
    found = drawn("bag_size")
    large = [counts_of(found, part, BACKGROUND, label) for part, label in (("train", 1), ("test", 0))]
    small = [counts_of(found, part, BACKGROUND, label) for part, label in (("train", 0), ("test", 1))]
    assert {int(c.min()) for c in large} == {35}
    assert {int(c.max()) for c in large} == {45}
    assert {int(c.min()) for c in small} == {8}
    assert {int(c.max()) for c in small} == {12}
    assert np.concatenate(large).mean() == pytest.approx(40, abs=0.6)


def test_duplicates_change_sides_and_bags_stay_of_one_size() -> None:
    found = drawn("duplicates")
    for part, with_copies in (("train", 1), ("test", 0)):
        for bag in getattr(found, part):
            rows = bag.features.numpy()[found.kinds[bag.slide_id] != CONCEPT]
            assert len(rows) == 22
            _, times = np.unique(rows, axis=0, return_counts=True)
            assert times.max() == (10 if bag.label == with_copies else 1)


def test_centre_signature_lies_on_every_instance() -> None:
    found = drawn("centre_signature")
    for part, signed in (("train", 1), ("test", 0)):
        for label in (0, 1):
            rows = rows_of(found, part, BACKGROUND, label)
            assert rows[:, :3].mean() == pytest.approx(2.0 if label == signed else 0.0, abs=0.06)
            assert rows[:, 3:].mean() == pytest.approx(0.0, abs=0.06)


def test_position_changes_sides_and_tiles_are_in_order() -> None:
    found = drawn("position")
    for part, left in (("train", 1), ("test", 0)):
        for label in (0, 1):
            x = rows_of(found, part, BACKGROUND, label)[:, 0]
            assert x.mean() == pytest.approx(-1.0 if label == left else 1.0, abs=0.03)
            assert x.std() == pytest.approx(0.3, abs=0.02)
    for bag in found.train[:10]:
        assert (np.diff(bag.features[:, 1].numpy()) >= 0).all()


def test_instances_come_in_no_telling_order() -> None:
    """The concept is joined last, then shuffled: its mean place is the middle."""
    found = drawn("add_normal")
    places = [
        np.flatnonzero(found.kinds[b.slide_id] == CONCEPT).mean() / (len(b) - 1)
        for b in found.train
        if b.label
    ]
    assert np.mean(places) == pytest.approx(0.5, abs=0.05)
