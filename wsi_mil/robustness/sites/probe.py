"""How well a linear model names the centre from features, on patients that it was not fitted on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.intervals import bootstrap_interval, exact_bound

FOLDS = 5
FEWEST_PATIENTS = 2
"""Centres with fewer patients are left out: one would be in no training part when it is tested."""


@dataclass(frozen=True)
class Probe:
    """How well the centre is named from features.

    what: the instances and how they were chosen. accuracy: balanced accuracy (mean over centres of the
    fraction of instances that are named rightly), with its 95 % bootstrap interval over patients. An accuracy
    of 1 or 0 has the exact one-sided bound of equally many patients of each centre. chance: 1 / number of
    centres. reason: why there is no accuracy. left_out: centres with fewer than two patients.
    """

    what: str
    n: int
    patients: int
    centres: tuple[str, ...]
    accuracy: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        """The balanced accuracy of guessing; NaN without centres."""
        return 1 / len(self.centres) if self.centres else math.nan

    @property
    def names_the_centre(self) -> bool:
        """Whether the whole interval lies above chance."""
        return self.low > self.chance


def probe_centres(
    what: str,
    features: NDArray[np.floating],
    centres: Sequence[str],
    patients: Sequence[str],
    rng: np.random.Generator,
    draws: int = 1000,
) -> Probe:
    """Return how well logistic regression names the centre of n instances from their features (n, D).

    Features are standardised and the centres weighted equally (C = 1, L2). Five-fold cross-validation,
    patients kept whole, or as many folds as the centre with fewest patients allows. rng: draws the folds and
    the bootstrap.

    >>> rng = np.random.default_rng(0)
    >>> centres = ["a", "b"] * 20
    >>> features = rng.normal(size=(40, 3)) + np.array([[4.0 * (c == "b")] * 3 for c in centres])
    >>> found = probe_centres("slides", features, centres, [str(i) for i in range(40)], rng, draws=50)
    >>> found.accuracy, found.chance, found.names_the_centre
    (1.0, 0.5, True)
    """
    truth, groups = np.asarray(centres), np.asarray(patients)
    per_centre = {str(name): len(set(groups[truth == name])) for name in np.unique(truth)}
    known = [name for name, count in per_centre.items() if count >= FEWEST_PATIENTS]
    left_out = tuple(name for name in per_centre if name not in known)
    rows = np.flatnonzero(np.isin(truth, known))
    values, truth, groups = np.asarray(features, np.float64)[rows], truth[rows], groups[rows]
    found = Probe(what, len(rows), len(set(groups)), tuple(known), left_out=left_out)
    if len(known) < 2:
        few = f"{len(known)} of {len(per_centre)} centres have {FEWEST_PATIENTS} patients or more"
        return Probe(what, found.n, found.patients, found.centres, reason=few, left_out=left_out)
    folds = min(FOLDS, *(per_centre[name] for name in known))
    named = _named_out_of_fold(values, truth, groups, folds, rng)
    right = named == truth
    numbers = np.searchsorted(np.array(known), truth)

    def balanced(chosen: NDArray[np.intp]) -> float:
        of = np.bincount(numbers[chosen], minlength=len(known))
        hits = np.bincount(numbers[chosen], right[chosen], minlength=len(known))
        return float((hits / of).mean()) if of.all() else math.nan

    accuracy = balanced(np.arange(len(rows)))
    if accuracy in (0.0, 1.0):
        interval = exact_bound(accuracy, len(known) * min(per_centre[name] for name in known))
    else:
        interval = bootstrap_interval(balanced, [str(group) for group in groups], rng, draws)
    return Probe(
        what, found.n, found.patients, found.centres, accuracy, interval.low, interval.high, "", left_out
    )


def _named_out_of_fold(
    values: NDArray[np.float64],
    truth: NDArray[np.str_],
    groups: NDArray[np.str_],
    folds: int,
    rng: np.random.Generator,
) -> NDArray[np.str_]:
    """Return the centre that each instance (n,) is given by the model of the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
    named = truth.copy()
    for train, test in splitter.split(values, truth, groups):
        if len(set(truth[train])) < 2:
            named[test] = truth[train][0]
            continue
        linear = LogisticRegression(class_weight="balanced", max_iter=5000)
        model = make_pipeline(StandardScaler(), linear).fit(values[train], truth[train])
        named[test] = model.predict(values[test])
    return named
