"""Tables of the poison experiment: in the terminal, and trainings.csv."""

from collections.abc import Sequence
from dataclasses import asdict

from wsi_mil.evaluation.intervals import Spread
from wsi_mil.io.json import without_nan
from wsi_mil.io.tables import csv_text, text_table
from wsi_mil.robustness.poison.spec import Direction
from wsi_mil.robustness.poison.study import METRICS, PoisonStudy, PoisonTrainingResult

SHOWN: tuple[tuple[str, Direction, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "normal slides poisoned in training, tumour slides in the test",
        "normal",
        (
            ("clean", "none", "slide_auc"),
            ("poisoned", "poison", "slide_auc"),
            ("patch", "none", "patch_auc"),
            ("poisoned", "poison", "patch_auc"),
            ("on poison", "poison", "poison_share"),
        ),
    ),
    (
        "mirrored: tumour slides poisoned in training, normal slides in the test",
        "tumour",
        (
            ("clean", "none", "slide_auc"),
            ("poisoned", "mirrored", "slide_auc"),
            ("patch", "none", "patch_auc"),
            ("poisoned", "mirrored", "patch_auc"),
            ("on poison", "mirrored", "poison_share"),
        ),
    ),
)
"""Title, direction and columns (title, condition, metric) of the tables in the terminal."""

OF_TRAINING = ("train_auc", "val_auc", "last_val_auc", "kept_epoch")
COLUMNS = ("model", "arm", "condition", "fold", *METRICS, *OF_TRAINING)


def verdict_rows(study: PoisonStudy) -> list[str]:
    """Return the lines of the tables: for each measured direction a title, a head and a row per model; then
    how to read them."""
    lines = []
    for title, direction, columns in SHOWN:
        if not any(direction in model.directions for model in study.models):
            continue
        rows = [["slide AUC:", *(head for head, _, _ in columns), "verdict"]]
        for model in study.models:
            cells = [spread_text(model.metric(condition, key)) for _, condition, key in columns]
            rows.append([model.model, *cells, model.verdict(direction)])
        table = text_table(rows, align=f"<{'>' * len(columns)}<", least=(12, *[15] * len(columns), 0))
        lines += [title, *table.splitlines()]
    return [
        *lines,
        "a verdict holds for its own direction only",
        f"poison touches {study.share_of_tiles:.1%} of the tiles; ±: half of the 95 % t interval over "
        "trainings",
    ]


def spread_text(found: Spread | None) -> str:
    """Return the mean and half of the 95 % t interval; a dash for an undefined mean.

    >>> spread_text(Spread(0.9, 0.01, 0.8, 1.0, 2)), spread_text(None)
    ('0.900 ± 0.100', '-')
    """
    if found is None or found.mean != found.mean:
        return "-"
    if found.low != found.low:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ± {found.mean - found.low:.3f}"


def trainings_csv(rows: Sequence[PoisonTrainingResult]) -> str:
    """Return trainings.csv: one row per training and condition, an empty cell for an undefined value."""
    cells = [
        {
            "model": row.model,
            "arm": row.arm,
            "condition": condition,
            "fold": row.fold,
            **{key: value for key, value in asdict(measured).items() if key in METRICS},
            **{key: getattr(row, key) for key in OF_TRAINING},
        }
        for row in rows
        for condition, measured in row.conditions.items()
    ]
    return csv_text(COLUMNS, without_nan(cells))
