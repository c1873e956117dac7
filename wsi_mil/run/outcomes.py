"""outcomes.csv: one row per slide and stage, failures included."""

import csv
import io
from collections import Counter
from pathlib import Path

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.io.files import write_text

COLUMNS = ["slide_id", "stage", "status", "reason", "counts", "digest", "seconds"]


class Ledger:
    """The newest outcome of every (slide, stage), written back whole after each change of `save`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[tuple[str, str], Outcome] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8") as handle:
                for row in csv.DictReader(handle):
                    self.put(Outcome.from_row(row))

    def put(self, outcome: Outcome) -> None:
        self._rows[(outcome.slide_id, outcome.stage)] = outcome

    def get(self, slide_id: str, stage: str) -> Outcome | None:
        return self._rows.get((slide_id, stage))

    def forget(self, slide_id: str, stage: str) -> None:
        self._rows.pop((slide_id, stage), None)

    def keep_only(self, slide_ids: set[str]) -> None:
        """Forget slides that are no longer part of the run."""
        self._rows = {key: row for key, row in self._rows.items() if key[0] in slide_ids}

    def rows(self, stage: str | None = None) -> list[Outcome]:
        return [self._rows[key] for key in sorted(self._rows) if stage in (None, key[1])]

    def problems(self) -> list[Outcome]:
        """Return what failed or was skipped."""
        return [row for row in self.rows() if row.status in ("failed", "skipped")]

    def save(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.as_row() for row in self.rows())
        if not self.path.exists() or self.path.read_text(encoding="utf-8") != text.getvalue():
            write_text(self.path, text.getvalue())

    def summary(self, stage: str) -> str:
        """Return e.g. '36 done, 1 failed' for one stage."""
        counts = Counter(row.status for row in self.rows(stage))
        return ", ".join(
            f"{counts[status]} {status}"
            for status in ("done", "empty", "skipped", "failed")
            if counts[status]
        )


def problem_table(problems: list[Outcome]) -> str:
    """Return the table of slides that failed or were skipped, one line each, for the console."""
    widths = [max(len(row.slide_id) for row in problems), max(len(row.stage) for row in problems)]
    return "\n".join(
        f"  {row.slide_id:<{widths[0]}}  {row.stage:<{widths[1]}}  {row.status:<7}  {row.reason}"
        for row in problems
    )
