"""Tables of the probe study."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.layers.choice import LAST, Choice
from pipelines.layers.networks import Candidate, Network
from pipelines.layers.probe import FOLDS
from wsi_mil.evaluation.methods import compare_trainings
from wsi_mil.io.tables import Row

TEST_TO_TRAIN = 1 / (FOLDS - 1)


def chosen_table(choices: Mapping[tuple[int, str], Choice]) -> list[list[str]]:
    """Return the layers that each division chose, by network, with their AUC on that half and the last
    layer's."""
    table = [["division", "network", "by", "layers", "AUC on the first half"]]
    for (division, network), choice in choices.items():
        sets = {"all": choice.measures}
        for name in choice.measures:
            sets.setdefault(name.partition(",")[0], []).append(name)
        for name, measures in sets.items():
            best = choice.best(measures).label
            value = np.mean([choice.candidates[best][measure] for measure in measures])
            table.append([str(division), network, name, best, f"{value:.3f}"])
    return table


def layer_table(choices: Mapping[tuple[int, str], Choice], networks: Sequence[Network]) -> list[list[str]]:
    """Return the AUC of each single layer (mean) on the first halves, averaged over divisions."""
    measures = next(iter(choices.values())).measures
    table = [["network", "layer", "values", *measures]]
    for network in networks:
        for layer, width in network.channels.items():
            label = Candidate((layer,), "mean").label
            own = [choice.candidates[label] for (_, name), choice in choices.items() if name == network.name]
            cells = (f"{np.mean([values[measure] for values in own]):.3f}" for measure in measures)
            table.append([network.name, layer, str(width), *cells])
    return table


def report_table(rows: Sequence[Row]) -> list[list[str]]:
    """Return, for one division, AUC and paired difference to the last layer by measure and setting.

    The test is the corrected resampled t over the folds of the second half. Texture has no last layer.
    """
    columns = ("layers", "AUC", "sd", "difference to last layer", "sd", "95 % interval", "t", "p")
    table = [["measure", "network", "setting", *columns]]
    cells = dict.fromkeys((row["measure"], row["network"], row["setting"]) for row in rows)
    for measure, network, setting in cells:
        values = _values(rows, measure, network, setting)
        shown = [f"{values.mean():.3f}", f"{values.std(ddof=1):.3f}"]
        label = next(row["candidate"] for row in rows if _key(row) == (measure, network, setting))
        base = _values(rows, measure, network, LAST)
        if setting == LAST or not len(base):
            table.append([measure, network, setting, label, *shown, *["-"] * 5])
            continue
        splits = [str(i) for i in range(len(values))]
        found = compare_trainings(values.tolist(), base.tolist(), splits, TEST_TO_TRAIN)
        numbers = [f"{found.difference:+.3f}", f"{(values - base).std(ddof=1):.3f}"]
        tested = [f"{found.low:+.3f} to {found.high:+.3f}", f"{found.t:.2f}", shown_p(found.p_two_sided)]
        table.append([measure, network, setting, label, *shown, *numbers, *(tested if found.test else "---")])
    return table


def division_table(rows: Mapping[int, Sequence[Row]]) -> list[list[str]]:
    """Return the mean AUC over divisions and the difference to the last layer in each of them."""
    first = next(iter(rows.values()))
    table = [["measure", "network", "setting", "AUC", "difference", *(f"division {d}" for d in rows)]]
    for cell in dict.fromkeys((row["measure"], row["network"], row["setting"]) for row in first):
        means = np.array([_values(own, *cell).mean() for own in rows.values()])
        bases = [_values(own, *cell[:2], LAST) for own in rows.values()]
        differences = ["-"] * (1 + len(rows))
        if cell[2] != LAST and all(len(base) for base in bases):
            each = means - [base.mean() for base in bases]
            differences = [f"{value:+.3f}" for value in (each.mean(), *each)]
        table.append([*cell, f"{means.mean():.3f}", *differences])
    return table


def shown_p(p: float) -> str:
    """Return p with three digits, or that it is smaller; "-" for NaN.

    >>> shown_p(0.0371), shown_p(0.0002)
    ('0.037', '<0.001')
    """
    if np.isnan(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _key(row: Row) -> tuple[str, str, str]:
    return row["measure"], row["network"], row["setting"]


def _values(rows: Sequence[Row], measure: str, network: str, setting: str) -> np.ndarray:
    return np.array([row.number("auc") for row in rows if _key(row) == (measure, network, setting)])
