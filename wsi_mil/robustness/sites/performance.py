"""How well a model separates positive from negative slides in each centre."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.metric import Metric
from wsi_mil.evaluation.intervals import bootstrap_interval, exact_bound, independent_pairs
from wsi_mil.evaluation.measure import measure
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.evaluation.observations import SlideObservations
from wsi_mil.evaluation.table import metrics_at
from wsi_mil.randomness import named_generator

WORSE_BY = 0.1
"""From this distance on, an AUC that is certainly lower than another one counts against the model."""


@dataclass(frozen=True)
class CentreAuc:
    """The slide AUC of one centre's test slides."""

    centre: str
    slides: int
    positive: int
    auc: Metric


@dataclass(frozen=True)
class ModelSites:
    """One model by centre, on test slides.

    digests: of its trainings. all_slides: the AUC of all of them. within: of pairs of slides from the same
    centre only, see `auc_within`.
    """

    model: str
    digests: tuple[str, ...]
    all_slides: Metric
    within: Metric
    centres: tuple[CentreAuc, ...]

    @property
    def worst(self) -> CentreAuc | None:
        """The centre with the lowest AUC, None if none is defined."""
        known = [row for row in self.centres if row.auc.defined]
        return min(known, key=lambda row: row.auc.value) if known else None


def model_by_centre(
    model: str,
    digests: tuple[str, ...],
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    centres: Sequence[str],
    patients: Sequence[str],
    seed: int,
    draws: int = 1000,
) -> ModelSites:
    """Return the AUC of n test slides in each centre, with 95 % bootstrap intervals over patients."""
    sites = np.asarray(centres)
    every = np.arange(len(truth))
    rows = []
    for name in sorted(set(centres)):
        own = np.flatnonzero(sites == name)
        metric = _auc(truth, scores, own, patients, named_generator(seed, model, "centre", name), draws)
        rows.append(CentreAuc(name, len(own), int(truth[own].sum()), metric))
    within = _within(truth, scores, centres, patients, named_generator(seed, model, "within centres"), draws)
    all_slides = _auc(truth, scores, every, patients, named_generator(seed, model, "all centres"), draws)
    return ModelSites(model, digests, all_slides, within, tuple(rows))


def auc_within(truth: NDArray[np.bool_], scores: NDArray[np.float64], centres: Sequence[str]) -> float:
    """Return the fraction of pairs, a positive and a negative slide of the *same* centre, that are ranked
    rightly; ties count one half. NaN if there is no such pair.

    A model that only knows the centre has 0.5 here, whatever its AUC over all slides.

    >>> truth, scores = np.array([True, False, True, False]), np.array([0.9, 0.9, 0.1, 0.1])
    >>> auc_within(truth, scores, ["a", "a", "b", "b"])
    0.5
    """
    sites = np.asarray(centres)
    won = pairs = 0.0
    for name in np.unique(sites):
        own = sites == name
        count = float(truth[own].sum()) * float((~truth[own]).sum())
        if count:
            won += count * auc(truth[own], scores[own])
            pairs += count
    return won / pairs if pairs else math.nan


def _within(
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    centres: Sequence[str],
    patients: Sequence[str],
    rng: np.random.Generator,
    draws: int,
) -> Metric:
    """Return `auc_within` with its interval; of exactly 1 or 0 with the exact one-sided bound."""
    value = auc_within(truth, scores, centres)
    if math.isnan(value):
        return Metric(value, None, "no centre has a positive and a negative slide", len(truth))
    if value in (0.0, 1.0):
        sites, persons = np.asarray(centres), np.asarray(patients)
        trials = sum(
            independent_pairs(truth[sites == name], persons[sites == name].tolist())
            for name in np.unique(sites)
        )
        trials = min(trials, independent_pairs(truth, patients))  # patients of several centres count once
        return Metric(value, exact_bound(value, trials), "", len(truth))

    def of(chosen: NDArray[np.intp]) -> float:
        return auc_within(truth[chosen], scores[chosen], [centres[row] for row in chosen])

    return Metric(value, bootstrap_interval(of, patients, rng, draws), "", len(truth))


def _auc(
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    rows: NDArray[np.intp],
    patients: Sequence[str],
    rng: np.random.Generator,
    draws: int,
) -> Metric:
    """Return the AUC of the slides `rows` with its interval, as `evaluate` measures it."""
    entry = next(entry for entry in metrics_at("slide", "detection") if entry.name == "auc")
    groups = tuple(patients[row] for row in rows)
    data = SlideObservations(groups, truth[rows], scores[rows], scores[rows] >= 0.5)
    return measure(entry, data, rng, draws)
