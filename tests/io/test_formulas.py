"""Cells of CSV files that we write are no formulas for a spreadsheet, and are read back as they were."""

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_mil.io.tables import csv_text, parse_csv, write_csv
from wsi_mil.io.user_tables import read_user_table

letters = st.text(st.sampled_from("=+-@'\"; \t\n\ra1,|"), max_size=8) | st.text(max_size=20)
text = letters.filter(lambda cell: "\0" not in cell and not any("\ud800" <= c <= "\udfff" for c in cell))


@given(text, text)
def test_every_text_is_read_back(column: str, cell: str) -> None:
    [row] = parse_csv(csv_text(["first", f"c{column}"], [["x", cell]]), Path("x.csv"))
    assert row[f"c{column}"] == cell


def test_a_label_table_of_ours_is_read_as_it_was(tmp_path: Path) -> None:
    """labels.csv of an export is a user's table for the next run."""
    path = tmp_path / "labels.csv"
    write_csv(path, ["slide", "label"], [["=1+1", "@tumour"], ["it's", "normal"]])
    cells = [line.cells for line in read_user_table(path).lines]
    assert cells[-2:] == [["=1+1", "@tumour"], ["it's", "normal"]]


def is_number(cell: str) -> bool:
    number = r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan|infinity)\s*"
    return re.fullmatch(number, cell.replace("_", ""), re.IGNORECASE) is not None


@given(st.lists(text, min_size=1, max_size=3))
def test_no_cell_begins_like_a_formula(cells: list[str]) -> None:
    written = csv_text([f"c{number}" for number in range(len(cells))], [cells])
    [_, line] = csv.reader(io.StringIO(written, newline=""))
    for cell in line:
        assert cell[:1] not in tuple("=+-@") or is_number(cell)


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", " =1", "a;=1", "a\n=1", "'=1"])
def test_formulas_get_an_apostrophe(cell: str) -> None:
    [_, line] = csv.reader(io.StringIO(csv_text(["c"], [[cell]]), newline=""))
    assert "'" in line[0].replace(cell, "", 1) or line[0].count("'") == cell.count("'") + 1


@pytest.mark.parametrize("cell", ["-0.5", "+1e-3", -0.5, 3, None, "slide-1", "a=b", "a, -5", "p+1"])
def test_numbers_and_other_text_stay(cell: object) -> None:
    [_, line] = csv.reader(io.StringIO(csv_text(["a", "c"], [["x", cell]]), newline=""))
    assert line[1] == ("" if cell is None else str(cell))
