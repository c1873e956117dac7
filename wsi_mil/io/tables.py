"""Tables: CSV files, aligned text for a terminal, Markdown."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil import limits
from wsi_mil.errors import DataError
from wsi_mil.io.bounded import check_size
from wsi_mil.io.files import write_text

FORMULA = re.compile(r"(^|[;\t\n\r])('*+)(?=[ \"']*+[=+\-@\t\r])")
"""Where a spreadsheet would take text as a formula: at the start of a cell, and behind what separates cells
in some languages' settings. Apostrophes that stand there already are kept apart from ours by their number."""
FLAGS = {"True": True, "true": True, "1": True, "False": False, "false": False, "0": False}


class MissingColumnError(DataError, KeyError):
    """A CSV file lacks a column. Also a KeyError, so that `row.get(column)` and `column in row` work."""

    __str__ = Exception.__str__  # that of KeyError would quote the message


@dataclass(frozen=True)
class Row(Mapping[str, str]):
    """One row of a CSV file: text by column, and typed access with errors that name file, line and column."""

    path: Path
    line: int
    """The number of the row's last line in the file, from 1."""
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        try:
            return self.cells[column]
        except KeyError as error:
            raise MissingColumnError(
                f"{self.path} has no column {column!r}, it has {', '.join(self.cells) or 'none'}"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def number(self, column: str) -> float:
        """Return the cell as a float, NaN for `nan` or an empty cell. Raises DataError for other text."""
        text = self[column].strip()
        try:
            return float(text or "nan")
        except ValueError as error:
            raise self._wrong(column, "a number") from error

    def flag(self, column: str) -> bool:
        """Return the cell as a bool: True, true or 1; False, false or 0. Raises DataError for other text."""
        try:
            return FLAGS[self[column].strip()]
        except KeyError as error:
            raise self._wrong(column, "True or False") from error

    def _wrong(self, column: str, expected: str) -> DataError:
        return DataError(
            f"{self.path}, line {self.line}, column {column}: expected {expected}, found {self[column]!r}"
        )


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object] | Sequence[object]]) -> str:
    """Return a CSV with a header; lines end with a line feed.

    A row is a mapping from column to value, or the values in the order of the columns. None and a column that
    a mapping lacks become an empty cell; a key that is no column, or a wrong number of values, raises
    ValueError.

    A text that a spreadsheet would run as a formula (= + - @ at its start) gets an apostrophe, which
    `read_csv` takes away again; a number does not.

    >>> csv_text(["slide"], [["=1+1"], ["-0.5"]])
    "slide\\n'=1+1\\n-0.5\\n"
    >>> csv_text(["slide", "auc"], [{"slide": "a", "auc": 0.5}, ("b", None)])
    'slide,auc\\na,0.5\\nb,\\n'
    """
    lines = [_line(columns)]
    for row in rows:
        if isinstance(row, Mapping):
            if unknown := row.keys() - set(columns):
                raise ValueError(
                    f"columns {sorted(unknown)} of a row are not among those of the table, {columns}"
                )
            row = [row.get(column) for column in columns]
        if len(row) != len(columns):
            raise ValueError(
                f"a row has {len(row)} values, the table has {len(columns)} columns: {list(row)}"
            )
        lines.append(_line(row))
    return "".join(lines)


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    # with this end of line, cells that hold one of its two characters are quoted
    csv.writer(text, lineterminator="\r\n").writerow([safe_cell(cell) for cell in cells])
    return text.getvalue().removesuffix("\r\n") + "\n"


def safe_cell(value: object) -> object:
    """Return a value as it is written into a CSV: text that begins like a formula with an apostrophe.

    >>> safe_cell("@SUM(A1)"), safe_cell("a;=1"), safe_cell(-1.5), safe_cell("s-1")
    ("'@SUM(A1)", "a;'=1", -1.5, 's-1')
    """
    if not isinstance(value, str) or _is_number(value):
        return value
    return FORMULA.sub(r"\1\2'", value)


def own_cell(text: str) -> str:
    """Return what `safe_cell` was given.

    >>> own_cell("'@SUM(A1)"), own_cell("it's")
    ('@SUM(A1)', "it's")
    """
    return FORMULA.sub(lambda found: found[1] + found[2][1:], text) if "'" in text else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object] | Sequence[object]]
) -> None:
    """Write rows (see `csv_text`) as UTF-8, whole or not at all. A file that is equal is not rewritten."""
    text = csv_text(columns, rows)
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def read_csv(path: Path) -> list[Row]:
    """Return the rows below the header; a byte-order mark and blank lines are ignored.

    Cells missing at the end of a row are empty; cells beyond the header are ignored. Raises DataError for a
    file that is no CSV in UTF-8.
    """
    check_size(path, limits.TABLE_BYTES)
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            return _rows(handle, path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}") from error


def parse_csv(text: str, source: Path) -> list[Row]:
    """Return what `read_csv` returns, from text; `source` is named in error messages.

    >>> parse_csv("slide,auc\\na,0.5\\n", Path("x.csv"))[0].number("auc")
    0.5
    """
    return _rows(io.StringIO(text, newline=""), source)


def _rows(lines: Iterable[str], path: Path) -> list[Row]:
    reader = csv.reader(lines)
    header = [own_cell(cell) for cell in next((cells for cells in reader if cells), [])]
    return [
        Row(
            path,
            reader.line_num,
            dict(zip(header, [*map(own_cell, cells), *[""] * len(header)], strict=False)),
        )
        for cells in reader
        if cells
    ]


def read_cells(path: Path, encoding: str = "utf-8-sig") -> list[list[str]]:
    """Return all cells of a CSV as text, line by line, for files without a header.

    The default encoding ignores a byte-order mark; with `utf-8` it is part of the first cell.
    """
    check_size(path, limits.TABLE_BYTES)
    with path.open(newline="", encoding=encoding) as handle:
        return list(csv.reader(handle))


def text_table(
    rows: Sequence[Sequence[str]], align: str = "<", least: Sequence[int] = (0,), gap: int = 2
) -> str:
    """Return rows of equal length as aligned columns, `gap` spaces apart, without spaces at line ends.

    `align` has `<` (left) or `>` (right) per column, `least` the smallest width; the last one of each holds
    for all columns after it.

    >>> print(text_table([["slide", "tiles"], ["a", "12"]], align="<>"))
    slide  tiles
    a         12
    """
    count = len(rows[0]) if rows else 0
    sides = [align[min(i, len(align) - 1)] for i in range(count)]
    floors = [least[min(i, len(least) - 1)] for i in range(count)]
    widths = [max(floor, *(len(row[i]) for row in rows)) for i, floor in enumerate(floors)]
    lines = []
    for row in rows:
        cells = [f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)]
        lines.append((" " * gap).join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table.

    >>> print(markdown_table(["slide", "auc"], [["a", "0.5"]]))
    | slide | auc |
    |---|---|
    | a | 0.5 |
    """
    return "\n".join([markdown_row(head), "|" + "---|" * len(head), *map(markdown_row, rows)])


def markdown_row(cells: Sequence[str]) -> str:
    """Return one line of a Markdown table, for tables that are printed row by row.

    >>> markdown_row(["a", "0.5"])
    '| a | 0.5 |'
    """
    return "| " + " | ".join(cells) + " |"
