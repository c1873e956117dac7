"""Tables of the trainings of pipelines/warm_up.py."""

from collections.abc import Sequence

import numpy as np

from wsi_mil.io.tables import Row
from wsi_mil.training.learning import UNEXPLAINED, has_learned

LEARNED_AUC = 0.8
"""A training with a test AUC below this has failed."""


def summary(rows: Sequence[Row]) -> list[list[str]]:
    """Return a row for each method and warm-up: AUCs, mean and worst, and how many trainings learn."""
    table = [["method", "warm_up", "trainings", "slide AUC", "worst", "patch AUC", "worst", "learned"]]
    for method, warm_up in dict.fromkeys((row["method"], row["warm_up"]) for row in rows):
        own = [row for row in rows if (row["method"], row["warm_up"]) == (method, warm_up)]
        slide, patch = (np.array([row.number(key) for row in own]) for key in ("slide_auc", "patch_auc"))
        learned = f"{(slide >= LEARNED_AUC).sum()} of {len(own)}"
        numbers = (f"{v:.3f}" for v in (slide.mean(), slide.min(), patch.mean(), patch.min()))
        table.append([method, warm_up, str(len(own)), *numbers, learned])
    return table


def by_draw(rows: Sequence[Row]) -> list[list[str]]:
    """Return a row for each method and warm-up with, for each draw, mean and worst slide AUC."""
    draws = list(dict.fromkeys(row["draw"] for row in rows))
    table = [["method", "warm_up", *draws]]
    for method, warm_up in dict.fromkeys((row["method"], row["warm_up"]) for row in rows):
        cells = []
        for draw in draws:
            own = [
                row.number("slide_auc")
                for row in rows
                if (row["method"], row["warm_up"], row["draw"]) == (method, warm_up, draw)
            ]
            cells.append(f"{np.mean(own):.3f} / {min(own):.3f}" if own else "-")
        table.append([method, warm_up, *cells])
    return table


def flag_errors(rows: Sequence[Row]) -> list[list[str]]:
    """Return how many failed and how many good trainings the rule "did not learn" flags."""
    failed = np.array([row.number("slide_auc") < LEARNED_AUC for row in rows])
    flagged = np.array([has_learned(row.number(UNEXPLAINED)) is False for row in rows])
    return [
        ["", "flagged", "not flagged"],
        ["failed (test AUC below 0.8)", str((failed & flagged).sum()), str((failed & ~flagged).sum())],
        ["learned", str((~failed & flagged).sum()), str((~failed & ~flagged).sum())],
    ]
