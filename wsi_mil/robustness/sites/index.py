"""The robustness index: do neighbours in feature space share the biology, or the centre?"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.intervals import bootstrap_interval

MOST_PAIRS = 100
"""How many pairs of centres and pairs of classes are drawn, at most."""
MOST_OF_A_CELL = 250
"""How many instances of one class of one centre are drawn into a pair, at most."""
FEWEST_PATIENTS = 2


@dataclass(frozen=True)
class RobustnessIndex:
    """The index of one kind of instances.

    value: from 0 (neighbours share the centre) to 1 (they share the class); 0.5: equally often; NaN with a
    reason. low, high: 95 % bootstrap interval over patients, NaN if all draws are equal. k: neighbours.
    accuracy: balanced accuracy at which k neighbours name the class. pairs: of two centres and two classes.
    n: instances, over all pairs.
    """

    what: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    k: int = 0
    accuracy: float = math.nan
    pairs: int = 0
    n: int = 0
    reason: str = ""


@dataclass(frozen=True)
class _Neighbours:
    """For each instance (n,) of a pair, its neighbours in order of distance (n, K), those of its own patient
    aside: whether they share its class and its centre."""

    patients: tuple[str, ...]
    classes: NDArray[np.bool_]
    same_class: NDArray[np.bool_]
    same_centre: NDArray[np.bool_]


def robustness_index(
    what: str,
    features: NDArray[np.floating],
    classes: Sequence[int],
    centres: Sequence[str],
    patients: Sequence[str],
    rng: np.random.Generator,
    draws: int = 1000,
) -> RobustnessIndex:
    """Return the robustness index of n instances with features (n, D).

    index = SO / (SO + OS), where SO counts, over all instances and their k nearest neighbours, those with the
    Same class from an Other centre, and OS those with an Other class from the Same centre; neighbours that
    share both or neither do not count. Features are scaled to length 1 and compared by Euclidean distance.
    Source: Kömen et al. 2025, Towards Robust Foundation Models for Digital Pathology (arXiv 2507.17845,
    PathoROB), as computed by `pathorob.robustness_index` of the authors' repository. The text of the paper
    could not be checked here, only that code was read. Another implementation (croma 1.0.1) gives equal
    values on generated samples.

    As there, in its paired form ("2x2"): every two centres and two classes are taken with equally many
    instances of the four kinds (drawn with `rng`), so that 0.5 means that class and centre count alike, and
    counts are added up over the pairs. k is the one of 1, 3, 5, 7, 9, 11, 21, 31 .. at which a majority of
    neighbours names the class with the highest balanced accuracy, mean over the pairs; the smallest, if
    several do.

    Departures: neighbours of the own *patient* are left out (there: of the own slide); the interval draws
    patients (there: instances); an instance in several pairs counts in each (there: in the last one).

    >>> rng = np.random.default_rng(0)
    >>> classes, centres = [0, 0, 1, 1] * 10, ["a", "b"] * 20
    >>> by_class = np.array([[1.0, 0.0] if c else [0.0, 1.0] for c in classes]) + rng.normal(0, 0.01, (40, 2))
    >>> robustness_index("slides", by_class, classes, centres, [str(i) for i in range(40)], rng, 50).value
    1.0
    """
    unit = np.asarray(features, np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    kind, site, person = np.asarray(classes), np.asarray(centres), np.asarray(patients)
    chosen = _pairs(kind, site, person, rng)
    if not chosen:
        need = f"no two centres have {FEWEST_PATIENTS} patients of each of the same two classes"
        return RobustnessIndex(what, reason=need)
    found = [_neighbours(unit[rows], kind[rows], site[rows], person[rows]) for rows in chosen]
    return _index_of(RobustnessIndex(what), found, rng, draws)


def _index_of(
    empty: RobustnessIndex, found: Sequence[_Neighbours], rng: np.random.Generator, draws: int
) -> RobustnessIndex:
    """Return the index of all pairs together, at the k that names the class best."""
    ks = _candidates(min(pair.same_class.shape[1] for pair in found))
    if not ks:
        return replace(empty, reason="no instance has a neighbour of another patient")
    accuracies = [float(np.mean([_accuracy(pair, k) for pair in found])) for k in ks]
    best = int(np.argmax(accuracies))
    k = ks[best]
    same_other = np.concatenate([_count(pair.same_class & ~pair.same_centre, k) for pair in found])
    other_same = np.concatenate([_count(~pair.same_class & pair.same_centre, k) for pair in found])

    def index(rows: NDArray[np.intp]) -> float:
        so, os = same_other[rows].sum(), other_same[rows].sum()
        return float(so / (so + os)) if so + os else math.nan

    value = index(np.arange(len(same_other)))
    result = replace(empty, value=value, k=k, accuracy=accuracies[best], pairs=len(found), n=len(same_other))
    if math.isnan(value):
        return replace(result, reason=f"none of the {k} neighbours shares only the class or only the centre")
    groups = [patient for pair in found for patient in pair.patients]
    interval = bootstrap_interval(index, groups, rng, draws)
    if interval.low == interval.high:  # the same on all draws: how much it varies is not known
        return result
    return replace(result, low=interval.low, high=interval.high)


def _pairs(
    kind: NDArray[np.int_], site: NDArray[np.str_], person: NDArray[np.str_], rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Return the rows of each pair of centres and classes, equally many of the four kinds."""
    cells = {
        (int(c), str(s)): np.flatnonzero((kind == c) & (site == s))
        for c in np.unique(kind)
        for s in np.unique(site)
    }
    enough = {key for key, rows in cells.items() if len(set(person[rows])) >= FEWEST_PATIENTS}
    names = sorted({c for c, _ in cells}), sorted({s for _, s in cells})
    possible = [
        [(c, s) for c in two for s in sites]
        for two in itertools.combinations(names[0], 2)
        for sites in itertools.combinations(names[1], 2)
        if all((c, s) in enough for c in two for s in sites)
    ]
    if len(possible) > MOST_PAIRS:
        possible = [possible[i] for i in np.sort(rng.choice(len(possible), MOST_PAIRS, replace=False))]
    found = []
    for four in possible:
        count = min(MOST_OF_A_CELL, *(len(cells[key]) for key in four))
        found.append(np.concatenate([np.sort(rng.choice(cells[key], count, replace=False)) for key in four]))
    return found


def _neighbours(
    unit: NDArray[np.float64], kind: NDArray[np.int_], site: NDArray[np.str_], person: NDArray[np.str_]
) -> _Neighbours:
    from sklearn.neighbors import NearestNeighbors

    order = (
        NearestNeighbors(n_neighbors=len(unit), algorithm="brute")
        .fit(unit)
        .kneighbors(unit, return_distance=False)
    )
    others = [row[person[row] != own] for row, own in zip(order, person, strict=True)]
    least = min(len(row) for row in others)
    near = np.array([row[:least] for row in others], np.intp).reshape(len(unit), least)
    return _Neighbours(
        tuple(str(name) for name in person),
        kind == kind.max(),
        kind[near] == kind[:, None],
        site[near] == site[:, None],
    )


def _candidates(most: int) -> list[int]:
    return [k for k in (1, 3, 5, 7, 9, *range(11, most + 1, 10)) if k <= most]


def _accuracy(pair: _Neighbours, k: int) -> float:
    """Return the balanced accuracy of the majority of k neighbours (k is odd)."""
    right = _count(pair.same_class, k) * 2 > k
    return float((right[pair.classes].mean() + right[~pair.classes].mean()) / 2)


def _count(which: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    return np.asarray(which[:, :k].sum(1), np.int64)
