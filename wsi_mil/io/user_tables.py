"""Tables that people write: CSV in any usual encoding and with any usual separator, and Excel workbooks."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wsi_mil import limits
from wsi_mil.errors import DataError
from wsi_mil.io.bounded import check_size, check_zip
from wsi_mil.io.tables import own_cell
from wsi_mil.logs import logger

SEPARATORS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls) or a workbook with a password"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF"),
    (b"SQLite format 3", "an SQLite database"),
)
EXCEL = "`pip install 'wsi-mil[excel]'`"


@dataclass(frozen=True)
class Line:
    """One row of a table. number: its (last) line in the file, from 1. cells: texts without blanks around."""

    number: int
    cells: list[str]

    @property
    def is_blank(self) -> bool:
        """Whether no cell holds a text."""
        return not any(self.cells)


@dataclass(frozen=True)
class UserTable:
    """All rows of a table, the header among them. decimal_comma: whether numbers may be written `0,25`."""

    lines: list[Line]
    decimal_comma: bool = False


def read_user_table(path: Path) -> UserTable:
    """Return the rows of a CSV file or of the only filled sheet of an .xlsx workbook.

    UTF-8, UTF-16 and UTF-32 are recognised; any other text is read as Windows-1252, which is reported. The
    separator is comma, semicolon, tab or bar: the one with which all lines have as many cells as the first.
    Raises DataError that names the file for anything else.
    """
    try:
        check_size(path, limits.TABLE_BYTES)
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    for start, what in FOREIGN:
        if data.startswith(start):
            raise DataError(f"{path} is {what}: save the table as CSV or .xlsx and name that file")
    if data.startswith(b"PK\x03\x04"):
        return UserTable(_read_workbook(path, data))
    text = decode_text(data, path)
    separator = _separator(text)
    return UserTable(_lines(text, separator, path), separator != ",")


def decode_text(data: bytes, path: Path) -> str:
    """Return the bytes of a text file as text, without byte-order mark. Raises DataError for binary data.

    >>> decode_text("Läsion".encode("utf-16"), Path("l.csv")), decode_text(b"a,b", Path("l.csv"))
    ('Läsion', 'a,b')
    """
    marked = next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), "")
    encoding = marked or _wide_encoding(data) or "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DataError(f"{path} is no valid {encoding.upper()} text: save it as UTF-8") from error
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise DataError(f"{path} is neither UTF-8 nor Windows-1252 text: save it as UTF-8") from error
        logger().info("%s is not UTF-8: it is read as Windows-1252 (the encoding of Excel's CSV)", path)
    if "\0" in text:
        raise DataError(f"{path} holds zero bytes, so it is no text table: save it as CSV in UTF-8")
    return text.removeprefix("\ufeff")


def _wide_encoding(data: bytes) -> str:
    """Return UTF-16 without a byte-order mark, which has a zero in every second byte of plain letters; or
    ""."""
    start = data[:200]
    if len(start) >= 4 and start[1::2].count(0) > 0.8 * len(start[1::2]):
        return "utf-16-le"
    if len(start) >= 4 and start[::2].count(0) > 0.8 * len(start[::2]):
        return "utf-16-be"
    return ""


def _separator(text: str) -> str:
    """Return the separator that divides every line into as many cells as the first, the most of them."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.lower().startswith("sep=") and len(first.strip()) <= 5:  # Excel's own way to state it
        return first[4:5] or "\t"
    found = []
    for rank, separator in enumerate(SEPARATORS):
        try:
            counts = [
                len(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row
            ]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            whole = sum(count == counts[0] for count in counts) / len(counts)
            found.append((whole, counts[0], -rank, separator))
    return max(found)[3] if found else ","


def _lines(text: str, separator: str, path: Path) -> list[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    found = []
    try:
        for row in reader:
            found.append(Line(reader.line_num, [own_cell(cell.strip()) for cell in row]))
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: no valid CSV with the separator "
            f"{NAMES.get(separator, separator)} ({error})"
        ) from error
    if found and len(found[0].cells) <= 2 and found[0].cells[0].lower().startswith("sep="):
        found = found[1:]
    return found


def _read_workbook(path: Path, data: bytes) -> list[Line]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(f"{path} is an Excel workbook: {EXCEL} reads it, or save it as CSV") from error
    check_zip(io.BytesIO(data), limits.TABLE_BYTES, str(path))
    try:
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheets = {
            sheet.title: _sheet_lines(sheet.iter_rows(values_only=True), path) for sheet in book.worksheets
        }
    except DataError:
        raise
    except Exception as error:  # openpyxl raises errors of many kinds for a damaged file
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is no readable .xlsx workbook ({what}): save the table as CSV") from error
    filled = {title: lines for title, lines in sheets.items() if any(not line.is_blank for line in lines)}
    if len(filled) > 1:
        raise DataError(
            f"{path} has {len(filled)} sheets with rows ({', '.join(filled)}): keep the one with the labels"
        )
    return next(iter(filled.values()), [])


def _sheet_lines(rows: Iterable[tuple[object, ...]], path: Path) -> list[Line]:
    lines, cells = [], 0
    for number, row in enumerate(rows, start=1):
        cells += len(row) + 1
        limits.CELLS.check(cells, str(path))
        lines.append(Line(number, [_cell_text(value) for value in row]))
    return lines


def _cell_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value).strip()
