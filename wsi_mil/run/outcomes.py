"""outcomes.csv: the newest outcome of every slide in every stage, failures included."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from wsi_mil.contracts.outcome import Outcome, Status
from wsi_mil.io.tables import read_csv, text_table, write_csv

COLUMNS = ["slide_id", "stage", "status", "reason", "counts", "digest", "seconds"]


class OutcomeTable:
    """The newest outcome of every slide and stage. `save` writes the whole table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[tuple[str, str], Outcome] = {}
        if path.exists():
            for row in read_csv(path):
                self.put(Outcome.from_row(dict(row)))

    def put(self, outcome: Outcome) -> None:
        """Add an outcome, or replace the older one of the same slide and stage."""
        self._rows[(outcome.slide_id, outcome.stage)] = outcome

    def get(self, slide_id: str, stage: str) -> Outcome | None:
        """Return the outcome of a slide in a stage, None if there is none."""
        return self._rows.get((slide_id, stage))

    def remove(self, slide_id: str, stage: str) -> None:
        """Remove the outcome of a slide in a stage, if there is one."""
        self._rows.pop((slide_id, stage), None)

    def keep_only(self, slide_ids: set[str]) -> None:
        """Remove the outcomes of slides that are no longer part of the run."""
        self._rows = {key: row for key, row in self._rows.items() if key[0] in slide_ids}

    def rows(self, stage: str | None = None) -> list[Outcome]:
        """Return the outcomes (of one stage), sorted by slide and stage."""
        return [self._rows[key] for key in sorted(self._rows) if stage in (None, key[1])]

    def problems(self) -> list[Outcome]:
        """Return the outcomes that failed or were skipped."""
        return [row for row in self.rows() if row.status in ("failed", "skipped")]

    def save(self) -> None:
        """Write the table; a file with equal content is kept."""
        write_csv(self.path, COLUMNS, [row.as_row() for row in self.rows()])

    def summary(self, stage: str) -> str:
        """Return the number of slides per status of one stage, for example '36 done, 1 failed'."""
        counts = Counter(row.status for row in self.rows(stage))
        order: tuple[Status, ...] = ("done", "empty", "skipped", "failed")
        return ", ".join(f"{counts[status]} {status}" for status in order if counts[status])


def problem_table(problems: Sequence[Outcome]) -> str:
    """Return the slides that failed or were skipped as aligned text, one line each."""
    table = text_table(
        [[row.slide_id, row.stage, row.status, row.reason] for row in problems], least=(0, 0, 7, 0)
    )
    return indent(table, "  ")
