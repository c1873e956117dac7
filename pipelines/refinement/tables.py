"""Tables of the refinement study: by refiner, and by cohort."""

from collections.abc import Mapping, Sequence
from typing import Any

from wsi_mil.evaluation.intervals import spread
from wsi_mil.io.tables import markdown_table

FIGURES = {
    "Dice, model's threshold": ("dice", "own"),
    "Dice, validation's threshold": ("dice", "validation"),
    "FROC": ("froc",),
}
"""Column -> path of keys of a comparison in refine.json."""


Compared = Mapping[str, Mapping[str, Any]]
"""Refiner -> its comparison on the test slides of one cohort, as in refine.json."""


def figure(comparison: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """Return the entry at a path of keys: before ("second"), after ("first"), difference and its interval."""
    for key in path:
        comparison = comparison[key]
    return comparison


def table(cohorts: Sequence[Compared]) -> str:
    """Return a Markdown table with a row per refiner.

    Cells: means over cohorts before and after refinement, and the mean difference with its 95 % t interval.
    """
    rows = []
    for name in cohorts[0]:
        cells = []
        for path in FIGURES.values():
            found = [figure(cohort[name], path) for cohort in cohorts]
            before, after = (sum(one[key] for one in found) / len(found) for key in ("second", "first"))
            change = spread([one["difference"] for one in found])
            cells.append(
                f"{before:.3f} → {after:.3f}, {change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
            )
        seconds = sum(cohort[name]["seconds"] for cohort in cohorts) / len(cohorts)
        rows.append([name, *cells, f"{seconds:.0f}"])
    return markdown_table(["refiner", *FIGURES, "seconds"], rows)


def by_cohort(cohorts: Sequence[Compared], names: Sequence[int], refiner: str) -> str:
    """Return a Markdown table with a row per cohort for one refiner.

    Cells: the metric before and after refinement, and the bootstrap interval of the difference over patients.
    """
    rows = []
    for name, cohort in zip(names, cohorts, strict=True):
        found = [figure(cohort[refiner], path) for path in FIGURES.values()]
        cells = [f"{f['second']:.3f} → {f['first']:.3f} ({f['low']:+.3f} to {f['high']:+.3f})" for f in found]
        rows.append([str(name), str(cohort[refiner]["test_slides"]), *cells])
    return markdown_table(["cohort", "test slides", *FIGURES], rows)
