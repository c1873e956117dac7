"""Tables of the trainings of pipelines/layers_mil.py."""

from collections.abc import Sequence

import numpy as np

from pipelines.layers.tables import shown_p
from wsi_mil.evaluation.methods import compare_trainings
from wsi_mil.io.tables import Row

MEASURES = ("slide_auc", "patch_auc", "patch_auprc")
TEST_TO_TRAIN = 1.0
"""Half of the patients test, the other half trains and validates."""


def mean_table(rows: Sequence[Row]) -> list[list[str]]:
    """Return, for each set, method and kind of features, each measure: mean and worst over divisions."""
    table = [["set", "method", "features", "trainings", *MEASURES]]
    for cell in dict.fromkeys(_cell(row) for row in sorted(rows, key=_cell)):
        own = [row for row in rows if _cell(row) == cell]
        values = [np.array([row.number(measure) for row in own]) for measure in MEASURES]
        table.append([*cell, str(len(own)), *(f"{v.mean():.3f}, {v.min():.3f}" for v in values)])
    return table


def difference_table(rows: Sequence[Row]) -> list[list[str]]:
    """Return the paired difference of the chosen layers to the last layer of the same network.

    Each measure has the mean difference, its standard deviation over divisions, and p of the corrected
    resampled t. The row "all" has the means over methods of each division.
    """
    table = [["set", "method", "network", "divisions", *MEASURES]]
    chosen = [row for row in rows if row["features"].endswith(", chosen")]
    for data, network in dict.fromkeys((row["set"], row["features"].partition(",")[0]) for row in chosen):
        methods = dict.fromkeys(row["method"] for row in chosen if row["set"] == data)
        for method in (*methods, "all"):
            names = list(methods) if method == "all" else [method]
            cells, count = [], 0
            for measure in MEASURES:
                first, second, divisions = _paired(rows, data, network, names, measure)
                found = compare_trainings(first, second, divisions, TEST_TO_TRAIN)
                spread = f"{np.std(np.subtract(first, second), ddof=1):.3f}" if len(first) > 1 else "-"
                count = len(first)
                cells.append(f"{found.difference:+.3f} ({spread}), p {shown_p(found.p_two_sided)}")
            table.append([data, method, network, str(count), *cells])
    return table


def _cell(row: Row) -> tuple[str, str, str]:
    return row["set"], row["method"], row["features"]


def _paired(
    rows: Sequence[Row], data: str, network: str, methods: Sequence[str], measure: str
) -> tuple[list[float], list[float], list[str]]:
    """Return the measure of chosen and of last layer, means over methods, of divisions that have all."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in rows:
        if row["set"] == data and row["method"] in methods:
            found.setdefault(row["division"], {})[row["method"], row["features"]] = row.number(measure)
    pairs = [[(m, f"{network}, {kind}") for m in methods] for kind in ("chosen", "last layer")]
    whole = [d for d, values in found.items() if all(key in values for keys in pairs for key in keys)]
    first, second = ([float(np.mean([found[d][key] for key in keys])) for d in whole] for keys in pairs)
    return first, second, whole
