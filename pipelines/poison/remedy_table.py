"""The table of the study `poison_remedies.py`."""

import math
from collections.abc import Sequence

from wsi_mil.io.tables import markdown_table
from wsi_mil.robustness.poison.conditions import Arm

ARMS: tuple[Arm, ...] = ("none", "normal", "tumour")
Row = tuple[str, str, str, Arm, int, float]
"""Cohort, method, remedy, arm, fold, slide AUC of the test part."""


def remedy_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with a row per cohort, method and remedy: mean over folds, and the worst."""
    cells: dict[tuple[str, str, str], dict[Arm, list[float]]] = {}
    for cohort, method, remedy, arm, _, value in rows:
        cells.setdefault((cohort, method, remedy), {}).setdefault(arm, []).append(value)
    lines = [[*key, *(_spread(by_arm.get(arm, [])) for arm in ARMS)] for key, by_arm in cells.items()]
    head = ("cohort", "method", "remedy", "clean", "poison", "mirrored")
    return markdown_table(head, lines)


def _spread(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{sum(known) / len(known):.3f} ({min(known):.3f})" if known else "-"
