"""Which layers the first half chooses, and what the second half reports of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.layers.features import Features
from pipelines.layers.networks import PROPOSED, Candidate, Network
from pipelines.layers.probe import Task, fold_aucs
from wsi_mil.io.tables import Row

REPEATS = 3
CHOICE = ("network", "candidate", "measure", "auc")
REPORT = ("measure", "network", "setting", "candidate", "split", "auc")
LAST, ALL, SAME, OTHER = "last layer", "chosen on all", "chosen on this measure", "chosen on the other set"
PROPOSAL = "layers of an earlier look"
Store = Mapping[tuple[str, str], Features]
"""(features of a task, network) -> features of all layers."""


def choice_rows(
    tasks: Sequence[Task], store: Store, networks: Iterable[Network], c: float
) -> list[list[str]]:
    """Return CHOICE for each candidate: its AUC over five folds of the first half."""
    rows = []
    for network in networks:
        for task in tasks:
            whole = half_features(task, store, network.name, first=True)
            for candidate in network.candidates():
                part = {key: values[:, network.columns(candidate)] for key, values in whole.items()}
                for measure, found in fold_aucs(task, part, first=True, repeats=1, c=c).items():
                    mean = f"{np.mean(found):.6f}"
                    rows.append([network.name, candidate.label, measure, mean])
    return rows


def half_features(task: Task, store: Store, network: str, first: bool) -> dict[str, Features]:
    """Return the features of one half of a task, all layers."""
    rows = task.rows[task.first == first]
    return {key: np.asarray(store[key, network][rows]) for key in task.measures.values()}


@dataclass(frozen=True)
class Choice:
    """The AUC of each candidate of a network on the first half, by measure."""

    candidates: Mapping[str, Mapping[str, float]]

    @classmethod
    def of_rows(cls, rows: Iterable[Row], network: str) -> "Choice":
        """Return the choice of a network from rows of CHOICE."""
        found: dict[str, dict[str, float]] = {}
        for row in rows:
            if row["network"] == network:
                found.setdefault(row["candidate"], {})[row["measure"]] = row.number("auc")
        return cls(found)

    def best(self, measures: Iterable[str]) -> Candidate:
        """Return the candidate with the highest mean AUC over some measures; the first one of equals."""
        names = list(measures)
        label = max(self.candidates, key=lambda c: np.mean([self.candidates[c][name] for name in names]))
        return Candidate.of_label(label)

    @property
    def measures(self) -> list[str]:
        """The measures, in the order of the tasks."""
        return list(next(iter(self.candidates.values())))


def settings_of(network: Network, choice: Choice, measure: str) -> dict[str, Candidate]:
    """Return what is reported of a network for a measure: setting -> layers.

    A set is the first word of a measure: colon or lung.
    """
    other = [name for name in choice.measures if _set_of(name) != _set_of(measure)]
    found = {
        LAST: network.last,
        ALL: choice.best(choice.measures),
        SAME: choice.best([measure]),
        OTHER: choice.best(other),
    }
    if set(PROPOSED.layers) <= set(network.channels):
        found[PROPOSAL] = PROPOSED
    return found


def _set_of(measure: str) -> str:
    return measure.partition(",")[0]


def report_rows(
    tasks: Sequence[Task], store: Store, choices: Sequence[tuple[Network, Choice]], c: float
) -> list[list[str]]:
    """Return REPORT for each fold of the second half, and for texture beside the networks."""
    rows = []
    for task in tasks:
        for network, choice in choices:
            whole = half_features(task, store, network.name, first=False)
            done: dict[Candidate, dict[str, list[float]]] = {}
            for measure in task.measures:
                for setting, candidate in settings_of(network, choice, measure).items():
                    if candidate not in done:
                        part = {key: values[:, network.columns(candidate)] for key, values in whole.items()}
                        done[candidate] = fold_aucs(task, part, first=False, repeats=REPEATS, c=c)
                    values = done[candidate][measure]
                    rows += _rows(measure, network.name, setting, candidate.label, values)
        whole = half_features(task, store, "texture", first=False)
        for measure, values in fold_aucs(task, whole, first=False, repeats=REPEATS, c=c).items():
            rows += _rows(measure, "texture", "texture", "-", values)
    return rows


def _rows(measure: str, network: str, setting: str, label: str, values: Sequence[float]) -> list[list[str]]:
    return [[measure, network, setting, label, str(i), f"{value:.6f}"] for i, value in enumerate(values)]
