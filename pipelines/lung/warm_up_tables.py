"""Tables of the trainings of pipelines/warm_up.py."""

from collections.abc import Sequence

import numpy as np

from wsi_mil.io.tables import Row
from wsi_mil.training.learning import LIMIT, UNEXPLAINED, has_learned

CELL = ("method", "warm_up", "lr")
LEARNED_AUC = 0.8
"""A training with a test AUC below this has failed."""


def measures(row: Row) -> dict[str, float]:
    """Return the columns of a training that say whether it has learned. The limit was added later."""
    return {key: row.number(key) for key in (UNEXPLAINED, LIMIT) if key in row}


def summary(rows: Sequence[Row]) -> list[list[str]]:
    """Return a row for each method, warm-up and rate.

    It has slide and patch AUC, mean and worst, how many trainings learn, how many are reported as not
    learned, and the mean validation AUC, which can choose a rate.
    """
    columns = ("slide AUC", "worst", "patch AUC", "worst", "learned", "reported", "validation AUC")
    table = [[*CELL, "trainings", *columns]]
    for cell in dict.fromkeys(tuple(row[key] for key in CELL) for row in rows):
        own = [row for row in rows if tuple(row[key] for key in CELL) == cell]
        slide, patch = (np.array([row.number(key) for row in own]) for key in ("slide_auc", "patch_auc"))
        learned = f"{(slide >= LEARNED_AUC).sum()} of {len(own)}"
        numbers = (f"{v:.3f}" for v in (slide.mean(), slide.min(), patch.mean(), patch.min()))
        reported = sum(has_learned(measures(row)) is False for row in own)
        chosen_by = f"{np.mean([row.number('val_auc') for row in own]):.3f}"
        table.append([*cell, str(len(own)), *numbers, learned, str(reported), chosen_by])
    return table


def by_draw(rows: Sequence[Row]) -> list[list[str]]:
    """Return a row for each method, warm-up and rate with, for each draw, mean and worst slide AUC."""
    draws = list(dict.fromkeys(row["draw"] for row in rows))
    table = [[*CELL, *draws]]
    for cell in dict.fromkeys(tuple(row[key] for key in CELL) for row in rows):
        cells = []
        for draw in draws:
            own = [
                row.number("slide_auc")
                for row in rows
                if (tuple(row[key] for key in CELL), row["draw"]) == (cell, draw)
            ]
            cells.append(f"{np.mean(own):.3f} / {min(own):.3f}" if own else "-")
        table.append([*cell, *cells])
    return table


def flag_errors(rows: Sequence[Row]) -> list[list[str]]:
    """Return how many failed and how many good trainings the rule "did not learn" flags."""
    failed = np.array([row.number("slide_auc") < LEARNED_AUC for row in rows])
    flagged = np.array([has_learned(measures(row)) is False for row in rows])
    return [
        ["", "flagged", "not flagged"],
        ["failed (test AUC below 0.8)", str((failed & flagged).sum()), str((failed & ~flagged).sum())],
        ["learned", str((~failed & flagged).sum()), str((~failed & ~flagged).sum())],
    ]
