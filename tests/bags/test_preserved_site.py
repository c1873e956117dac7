"""Splits of whole centres: balance against all possible divisions, patients, messages."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_mil.bags import SplitSpec, make_split
from wsi_mil.bags.sites import CLOSE_ENOUGH, divide_blocks
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError


def imbalance(counts: NDArray[np.integer], part_of: NDArray[np.integer], shares: list[float]) -> float:
    """The sum of deviations, each less what counts as none; infinite if a part lacks a class."""
    total = 0.0
    for part, share in enumerate(shares):
        for kind in range(counts.shape[1]):
            here, every = counts[part_of == part, kind].sum(), counts[:, kind].sum()
            if not here:
                return float("inf")
            total += max(abs(here / every - share) - max(CLOSE_ENOUGH, 0.5 / every), 0)
    return total


@pytest.mark.parametrize("shares", [[1 / 3] * 3, [0.7, 0.3], [0.5, 0.3, 0.2]])
@pytest.mark.parametrize("seed", range(8))
def test_the_division_is_the_best_of_all(seed: int, shares: list[float]) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 12, (7, 2 + seed % 2))
    best = min(
        imbalance(counts, np.array(parts), shares)
        for parts in itertools.product(range(len(shares)), repeat=7)
    )
    found = divide_blocks(counts, shares, rng)
    if np.isinf(best):
        assert found is None
    else:
        assert found is not None
        assert imbalance(counts, found, shares) == pytest.approx(best, abs=1e-6)


def cohort(seed: int = 0, centres: int = 8) -> list[SlideLabel]:
    """Centres of 5 to 40 slides with 10 to 90 % positive ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for centre in range(centres):
        chance = rng.uniform(0.1, 0.9)
        for number in range(int(rng.integers(5, 40))):
            name = f"{centre}_{number}"
            rows.append(SlideLabel(f"s{name}", int(rng.random() < chance), f"p{name}", f"c{centre}"))
    return rows


def test_no_centre_is_in_two_parts_and_every_slide_is_tested_once() -> None:
    rows = cohort()
    of = {row.slide_id: row for row in rows}
    split = make_split(rows, SplitSpec(kind="preserved_site", folds=4))
    assert sorted(name for fold in split.folds for name in fold.test) == sorted(of)
    for fold in split.folds:
        parts = [{of[name].centre for name in part} for part in (fold.train, fold.val, fold.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 8
        assert sorted((*fold.train, *fold.val, *fold.test)) == sorted(of)
        for part in (fold.train, fold.val, fold.test):
            assert {of[name].label for name in part} == {0, 1}


def test_labels_are_better_balanced_than_by_chance() -> None:
    rows = cohort(3, 20)
    of = {row.slide_id: row for row in rows}
    rate = np.mean([row.label for row in rows])
    split = make_split(rows, SplitSpec(kind="preserved_site", folds=4))
    off = [abs(np.mean([of[name].label for name in fold.test]) - rate) for fold in split.folds]
    sizes = [len(fold.test) / len(rows) for fold in split.folds]
    assert max(off) < 0.06
    assert max(abs(size - 0.25) for size in sizes) < 0.05
    rng = np.random.default_rng(0)
    by_chance = []
    for _ in range(50):
        part = {f"c{c}": int(rng.integers(4)) for c in range(20)}
        groups = [[row.label for row in rows if part[row.centre] == p] for p in range(4)]
        by_chance.append(max(abs(np.mean(group) - rate) if group else 1 for group in groups))
    assert max(off) < np.quantile(by_chance, 0.1)


def test_centres_that_share_a_patient_stay_together() -> None:
    rows = [*cohort(), SlideLabel("extra1", 0, "shared", "c1"), SlideLabel("extra2", 0, "shared", "c5")]
    split = make_split(rows, SplitSpec(kind="preserved_site", folds=3))
    of = {row.slide_id: row for row in rows}
    for fold in split.folds:
        for part in (fold.train, fold.val, fold.test):
            there = {of[name].centre for name in part}
            assert ("c1" in there) == ("c5" in there)


def test_the_same_rows_in_any_order_give_the_same_folds() -> None:
    rows, spec = cohort(), SplitSpec(kind="preserved_site", folds=3, seed=4)
    first = make_split(rows, spec)
    assert make_split(rows[::-1], spec).digest() == first.digest()
    seen = {make_split(rows, spec.model_copy(update={"seed": seed})).digest() for seed in range(6)}
    assert len(seen) > 1


def rows_with(*slides: tuple[str, int]) -> list[SlideLabel]:
    return [SlideLabel(f"s{i}", label, f"p{i}", centre) for i, (centre, label) in enumerate(slides)]


@pytest.mark.parametrize(
    ("rows", "folds", "message"),
    [
        (rows_with(("a", 0), ("", 1), ("b", 1)), 3, "slide 's1' has no centre (1 of 3 slides): fill"),
        (cohort(0, 2), 2, "2 centres are too few for 2 folds with training, validation and test: add 1"),
        (cohort(0, 4), 5, "4 centres are too few for 5 folds .* add 1 or lower split.folds to 4"),
        (
            [row for row in cohort(0, 6) if row.label == 0 or row.centre in ("c0", "c1")],
            3,
            "no division of 6 centres into 3 folds gives every part each class; one class",
        ),
        (
            [row for row in cohort(0, 6) if row.label == 0 or row.centre in ("c0", "c1", "c2")],
            3,
            "",
        ),
    ],
)
def test_what_cannot_be_divided_is_said_in_one_line(rows: list[SlideLabel], folds: int, message: str) -> None:
    spec = SplitSpec(kind="preserved_site", folds=folds)
    if not message:
        assert len(make_split(rows, spec).folds) == 3
        return
    with pytest.raises(DataError, match=message.replace("(", r"\(").replace(")", r"\)")) as refused:
        make_split(rows, spec)
    assert "\n" not in str(refused.value)
