"""How the label is tied to the centre, before any feature is read."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GUESSABLE_AUC = 0.65
"""From this AUC of the centre alone on, the label counts as guessable, if it is also `SIGNIFICANT`. The AUC
alone would not do: without a tie, 12 % of the cohorts of 40 slides of four centres reach it by chance."""
SIGNIFICANT = 0.05
"""Above this p value a tie may be due to chance."""
PERMUTATIONS = 999


@dataclass(frozen=True)
class CentreCounts:
    """How many slides, positive slides and patients a centre has."""

    centre: str
    slides: int
    positive: int
    patients: int


@dataclass(frozen=True)
class LabelTie:
    """How the label is tied to the centre.

    auc: of the centre alone, see `centre_alone_auc`. cramers_v: 0 without a tie, 1 for a full one; NaN if
    there is one class or one centre. p_value: of a permutation of the patients, see `permutation_p`.
    """

    centres: tuple[CentreCounts, ...]
    auc: float
    cramers_v: float
    p_value: float

    @property
    def high(self) -> bool:
        """Whether the AUC of the centre alone is at least `GUESSABLE_AUC`."""
        return self.auc >= GUESSABLE_AUC

    @property
    def guessable(self) -> bool:
        """Whether that AUC is high, and the tie is not one of chance (p below `SIGNIFICANT`)."""
        return self.high and self.p_value < SIGNIFICANT


def label_tie(
    centres: Sequence[str],
    positive: NDArray[np.bool_],
    patients: Sequence[str],
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> LabelTie:
    """Return how the label of n slides is tied to their centre. permutations: for the p value.

    >>> positive = np.array([True] * 5 + [False] * 5)
    >>> found = label_tie(["a"] * 5 + ["b"] * 5, positive, list("abcdefghij"), np.random.default_rng(0))
    >>> found.auc, round(found.cramers_v, 3), found.guessable
    (1.0, 1.0, True)
    """
    positive = np.asarray(positive, bool)
    slides = Counter(centres)
    counts = []
    for name in sorted(slides):
        rows = [row for row, centre in enumerate(centres) if centre == name]
        persons = len({patients[row] for row in rows})
        counts.append(CentreCounts(name, len(rows), int(positive[rows].sum()), persons))
    return LabelTie(
        tuple(counts),
        centre_alone_auc(centres, positive, patients),
        cramers_v(centres, positive),
        permutation_p(centres, positive, patients, rng, permutations),
    )


def cramers_v(centres: Sequence[str], positive: NDArray[np.bool_]) -> float:
    """Return Cramér's V of centre and label: the square root of chi squared / (n x min(centres - 1, 1)).

    NaN if there is only one centre or one class.

    >>> round(cramers_v(["a", "a", "b", "b"], np.array([True, False, True, False])), 3)
    0.0
    """
    from scipy.stats.contingency import association, crosstab

    table = crosstab(np.asarray(centres), np.asarray(positive)).count
    return float(association(table, method="cramer")) if min(table.shape) > 1 else math.nan


def permutation_p(
    centres: Sequence[str],
    positive: NDArray[np.bool_],
    patients: Sequence[str],
    rng: np.random.Generator,
    draws: int = PERMUTATIONS,
) -> float:
    """Return the p value of "label and centre are independent": (1 + draws with a V at least as large) /
    (1 + draws).

    A draw permutes the labels of patients with equally many slides, so that a patient's slides keep their
    labels together. NaN where V is undefined, or for no draws.
    """
    _, numbers = np.unique(np.asarray(centres), return_inverse=True)
    positive = np.asarray(positive, bool)
    observed = _squared_distance(numbers, positive)
    if math.isnan(cramers_v(centres, positive)) or not draws:
        return math.nan
    rows_of: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        rows_of.setdefault(patient, []).append(row)
    of_size: dict[int, list[list[int]]] = {}
    for rows in rows_of.values():
        of_size.setdefault(len(rows), []).append(rows)
    blocks = [np.array(rows) for rows in of_size.values()]  # (patients, slides of each)
    as_large = 0
    for _ in range(draws):
        drawn = positive.copy()
        for block in blocks:
            drawn[block] = positive[block[rng.permutation(len(block))]]
        as_large += _squared_distance(numbers, drawn) >= observed - 1e-9
    return (1 + as_large) / (1 + draws)


def _squared_distance(numbers: NDArray[np.intp], positive: NDArray[np.bool_]) -> float:
    """Return the sum over centres of (positive slides)^2 / slides.

    It grows with chi squared, and the other terms of chi squared are the same for all permutations.
    """
    return float((np.bincount(numbers, positive) ** 2 / np.bincount(numbers)).sum())


def centre_alone_auc(centres: Sequence[str], positive: NDArray[np.bool_], patients: Sequence[str]) -> float:
    """Return the AUC of a score that knows nothing but the centre: the fraction of positive slides of the
    centre. NaN if no two patients differ in their label.

    Each pair of a positive and a negative slide of different patients is compared by fractions of the slides
    of all other patients; equal fractions count one half (leave-pair-out: Airola et al., Computational
    Statistics & Data Analysis 2011). A centre without other patients has the fraction of all slides. For
    independent slides without a tie the expectation is 0.5. One patient at a time does not do: a positive
    slide that is left out lowers the fraction of its own centre, and centres with equal classes would have an
    AUC of 0. In a cohort whose classes are balanced in every centre on purpose, the AUC is below 0.5 for the
    same reason.

    >>> positive = np.array([True, True, False, False])
    >>> centre_alone_auc(["a", "a", "b", "b"], positive, ["1", "2", "3", "4"])
    1.0
    """
    pos, all_of, weight = _patterns(centres, np.asarray(positive, bool), patients)
    neg = all_of - pos
    total_pos, total = weight @ pos, weight @ all_of
    first, second = np.argwhere(pos > 0), np.argwhere(neg > 0)  # (pattern, centre) of positives, negatives
    if not len(first) or not len(second):
        return math.nan
    (a, at_a), (b, at_b) = (first[:, :1], first[:, 1:]), (second[:, 0], second[:, 1])
    pairs = weight[a] * (weight[b] - (a == b)) * pos[a, at_a] * neg[b, at_b]
    pos_left = total_pos.sum() - pos.sum(1)[a] - pos.sum(1)[b]
    left = total.sum() - all_of.sum(1)[a] - all_of.sum(1)[b]

    def fraction(at: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return positive slides and slides of a centre without both patients, else of all centres."""
        slides = total[at] - all_of[a, at] - all_of[b, at]
        positives = total_pos[at] - pos[a, at] - pos[b, at]
        return np.where(slides > 0, positives, pos_left), np.where(slides > 0, slides, np.maximum(left, 1))

    (p1, n1), (p2, n2) = fraction(at_a), fraction(at_b)
    won = np.sign(p1 * n2 - p2 * n1) / 2 + 0.5  # in whole numbers, so that ties are exact
    return float((pairs * won).sum() / pairs.sum()) if pairs.sum() else math.nan


def _patterns(
    centres: Sequence[str], positive: NDArray[np.bool_], patients: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return positive slides (K, C), slides (K, C) and the number of patients (K,) of each kind of patient.

    Patients with equal counts in every centre are one kind, so that large cohorts take little memory.
    """
    _, centre = np.unique(np.asarray(centres), return_inverse=True)
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    shape = (patient.max() + 1, centre.max() + 1)
    cell, cells = patient * shape[1] + centre, shape[0] * shape[1]
    two = [np.bincount(cell[positive], minlength=cells), np.bincount(cell, minlength=cells)]
    counts = np.stack([number.reshape(shape) for number in two], axis=1)
    kinds, weight = np.unique(counts, axis=0, return_counts=True)
    return kinds[:, 0], kinds[:, 1], weight.astype(np.int64)
