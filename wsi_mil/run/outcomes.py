"""outcomes.csv: the newest outcome of every slide in every stage, failures included."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent

from wsi_mil.contracts.outcome import Outcome, Status
from wsi_mil.errors import WsiMilError
from wsi_mil.io.files import digest_json
from wsi_mil.io.tables import read_csv, text_table, write_csv
from wsi_mil.logs import logger

COLUMNS = ["slide_id", "stage", "status", "reason", "counts", "digest", "seconds", "state"]

CHECK = "row_digest"


class OutcomeTable:
    """The newest outcome of every slide and stage. `save` writes the whole table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[str] = []
        self._rows: dict[tuple[str, str], Outcome] = {}
        self._changed = False
        if path.exists():
            self._read()
            self._changed = bool(self.damaged)

    def _read(self) -> None:
        """Read the table. Damaged rows are left out with a warning: the stages write them again."""
        try:
            rows = read_csv(self.path)
        except WsiMilError as error:
            self._note(f"{self.path} is damaged ({error}): the stages write it again")
            return
        for row in rows:
            values = dict(row)
            try:
                if values.pop(CHECK, "") not in ("", _digest(values)):
                    raise ValueError("the row does not match its digest")
                self.put(Outcome.from_row(values))
            except (KeyError, ValueError, WsiMilError) as error:
                self._note(f"{self.path}, line {row.line}, is damaged ({error}): its stage writes it again")

    def _note(self, problem: str) -> None:
        self.damaged.append(problem)
        logger().warning("%s", problem)

    def put(self, outcome: Outcome) -> None:
        """Add an outcome, or replace the older one of the same slide and stage."""
        self._rows[(outcome.slide_id, outcome.stage)] = outcome
        self._changed = True

    def get(self, slide_id: str, stage: str) -> Outcome | None:
        """Return the outcome of a slide in a stage, None if there is none."""
        return self._rows.get((slide_id, stage))

    def remove(self, slide_id: str, stage: str) -> None:
        """Remove the outcome of a slide in a stage, if there is one."""
        self._changed |= self._rows.pop((slide_id, stage), None) is not None

    def keep_only(self, slide_ids: set[str]) -> None:
        """Remove the outcomes of slides that are no longer part of the run."""
        kept = {key: row for key, row in self._rows.items() if key[0] in slide_ids}
        self._changed |= len(kept) < len(self._rows)
        self._rows = kept

    def rows(self, stage: str | None = None) -> list[Outcome]:
        """Return the outcomes (of one stage), sorted by slide and stage."""
        return [self._rows[key] for key in sorted(self._rows) if stage in (None, key[1])]

    def problems(self) -> list[Outcome]:
        """Return the outcomes that failed or were skipped."""
        return [row for row in self.rows() if row.status in ("failed", "skipped")]

    def save(self) -> None:
        """Write the table, unless nothing was changed since it was read or written."""
        if not self._changed and self.path.exists():
            return
        rows = [row.as_row() for row in self.rows()]
        write_csv(self.path, [*COLUMNS, CHECK], [{**row, CHECK: _digest(row)} for row in rows])
        self._changed = False

    def summary(self, stage: str) -> str:
        """Return the number of slides per status of one stage, for example '36 done, 1 failed'."""
        counts = Counter(row.status for row in self.rows(stage))
        order: tuple[Status, ...] = ("done", "empty", "skipped", "failed")
        return ", ".join(f"{counts[status]} {status}" for status in order if counts[status])


def _digest(row: Mapping[str, str]) -> str:
    """Return the digest of the cells of a row: a table whose rows are written one by one has no other
    place. `state`, which tables of earlier versions lack, is left out: a wrong one is compared again."""
    return digest_json([row[column] for column in COLUMNS if column != "state"])[:8]


def problem_table(problems: Sequence[Outcome]) -> str:
    """Return the slides that failed or were skipped as aligned text, one line each."""
    table = text_table(
        [[row.slide_id, row.stage, row.status, row.reason] for row in problems], least=(0, 0, 7, 0)
    )
    return indent(table, "  ")
