"""Two tables: one with a row for each patient, and one with the slides of each patient, as STAMP has them."""

from collections.abc import Mapping
from pathlib import Path

from wsi_mil.bags.columns import assign_columns
from wsi_mil.errors import DataError
from wsi_mil.io.user_tables import Line, UserTable, read_user_table
from wsi_mil.logs import logger


def join_slide_table(path: Path, patients: UserTable, slides: Path, columns: Mapping[str, str]) -> UserTable:
    """Return a table with a row for each slide: its patient's row of `patients`, and the slide's own.

    path: of `patients`, for messages. slides: the table of slides, with a column of patients and one of
    slides. A slide of a patient without a row gets empty cells, so it has no label; a patient without slides
    is reported. Raises DataError if a table lacks the patient, or a patient has two rows.
    """
    if not slides.is_file():
        raise DataError(f"no table of slides at {slides}: give slides.slide_table=PATH")
    table = read_user_table(slides)
    found = assign_columns(slides, table, {}, columns, "slides.slide_table")
    if "patient" not in found.columns:
        raise DataError(
            f"{slides}: slides.slide_table needs a column of patients: name it with slides.columns"
        )
    key = _patient_column(path, patients, columns)
    lines = [line for line in patients.lines if not line.is_blank]
    header, rows = lines[0].cells, dict[str, Line]()
    for line in lines[1:]:
        name = line.cells[key] if key < len(line.cells) else ""
        if name in rows:
            raise DataError(f"{path}, line {line.number}: patient {name!r} has two rows, expected one")
        rows[name] = line
    own = [cell for i, cell in enumerate(header) if i != key]
    joined = [Line(1, ["slide", "patient", *own])]
    for number, row in found.lines:
        known = rows[row["patient"]].cells if row["patient"] in rows else []
        cells = [*known, *[""] * len(header)][: len(header)]
        joined.append(
            Line(number, [row["slide"], row["patient"], *(c for i, c in enumerate(cells) if i != key)])
        )
    without = sorted(set(rows) - {row["patient"] for _, row in found.lines})
    if without:
        logger().warning(
            "%s: %d of %d patients have no slide in %s, the first is %s",
            path,
            len(without),
            len(rows),
            slides,
            without[0],
        )
    return UserTable(joined, patients.decimal_comma)


def _patient_column(path: Path, table: UserTable, columns: Mapping[str, str]) -> int:
    """Return the number of the column of patients of a table that has no slides."""
    lines = [line for line in table.lines if not line.is_blank]
    if not lines:
        raise DataError(f"{path} is empty: expected one row for each patient")
    # the check for a column of slides is met by a column that is added here
    marked = UserTable([Line(line.number, [*line.cells, f"{line.number}"]) for line in lines])
    marked.lines[0].cells[-1] = "slide"
    found = assign_columns(path, marked, {}, columns, "slides.labels")
    if "patient" not in found.columns:
        raise DataError(
            f"{path}: beside slides.slide_table, slides.labels needs a column of patients, found "
            f"{', '.join(lines[0].cells)}: name it with slides.columns.patient=COLUMN"
        )
    return lines[0].cells.index(found.columns["patient"])
