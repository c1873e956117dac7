"""The poison experiment as a table in the terminal."""

from wsi_mil.evaluation.intervals import Spread
from wsi_mil.io.tables import text_table
from wsi_mil.robustness.poison.study import PoisonStudy

SHOWN = (
    ("clean", "none", "slide_auc"),
    ("poisoned", "poison", "slide_auc"),
    ("patch", "none", "patch_auc"),
    ("poisoned", "poison", "patch_auc"),
    ("on poison", "poison", "poison_share"),
)


def verdict_rows(study: PoisonStudy) -> list[str]:
    """Return the lines of the table: a head, a row per model, and how to read it."""
    rows = [["slide AUC:", *(title for title, _, _ in SHOWN), "verdict"]]
    for model in study.models:
        cells = [spread_text(model.metric(condition, key)) for _, condition, key in SHOWN]
        rows.append([model.model, *cells, model.verdict or "-"])
    count = len(SHOWN)
    table = text_table(rows, align=f"<{'>' * count}<", least=(12, *[15] * count, 0))
    return [
        *table.splitlines(),
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
