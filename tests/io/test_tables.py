"""CSV, aligned text and Markdown, against text written by hand."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_mil.errors import DataError
from wsi_mil.io.tables import csv_text, markdown_table, parse_csv, read_cells, read_csv, text_table, write_csv


def test_a_csv_is_written_as_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.csv"
    rows = [{"slide": "a,b", "auc": 0.1 + 0.2, "found": True}, {"slide": 'say "x"'}, ("c", None, "d\ne")]
    write_csv(path, ["slide", "auc", "found"], rows)
    expected = b'slide,auc,found\n"a,b",0.30000000000000004,True\n"say ""x""",,\nc,,"d\ne"\n'
    assert path.read_bytes() == expected


def test_a_wrong_row_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for row in ({"a": 1, "z": 2}, (1,), (1, 2, 3)):
        with pytest.raises(
            ValueError, match=r"columns \['z'\] of a row|a row has [13] values, the table has 2"
        ):
            write_csv(tmp_path / "t.csv", ["a", "b"], [row])
    assert not list(tmp_path.iterdir())


def test_an_equal_file_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_csv(path, ["a"], [(1,)])
    before = path.stat().st_ino
    write_csv(path, ["a"], [(1,)])
    assert path.stat().st_ino == before
    write_csv(path, ["a"], [(2,)])
    assert path.read_text() == "a\n2\n"


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('",\n'), max_size=5)


@given(st.lists(st.tuples(st.just("x"), texts, texts), max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read(rows: list[tuple[str, str, str]]) -> None:
    found = parse_csv(csv_text(["a", "b", "c"], rows), Path("t.csv"))
    assert [tuple(row.values()) for row in found] == rows


def test_a_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfslide,auc,found\r\na,0.5,True,more\r\n\r\nb,,0\r\nc\r\n")
    first, second, third = read_csv(path)
    assert dict(first) == {"slide": "a", "auc": "0.5", "found": "True"}
    assert (first.number("auc"), first.flag("found"), second.flag("found")) == (0.5, True, False)
    assert second.number("auc") != second.number("auc")
    assert (second.line, dict(third)) == (4, {"slide": "c", "auc": "", "found": ""})
    assert read_cells(path)[1] == ["a", "0.5", "True", "more"]
    (tmp_path / "empty.csv").touch()
    assert read_csv(tmp_path / "empty.csv") == []


def test_a_wrong_cell_is_named_with_file_line_and_column() -> None:
    (row,) = parse_csv("slide,auc\na,high\n", Path("t.csv"))
    with pytest.raises(DataError, match=r"t\.csv, line 2, column auc: expected a number, found 'high'"):
        row.number("auc")
    with pytest.raises(DataError, match=r"line 2, column auc: expected True or False, found 'high'"):
        row.flag("auc")
    with pytest.raises(DataError, match=r"^t\.csv has no column 'tiles', it has slide, auc"):
        row["tiles"]
    assert (row.get("slide"), row.get("tiles"), "tiles" in row) == ("a", None, False)


def test_text_is_aligned_per_column() -> None:
    rows = [["model", "AUC", "note"], ["mi_net", "0.5", ""], ["x", "10.25", "best of all"]]
    assert text_table(rows, align="<><") == "\n".join(
        ["model     AUC  note", "mi_net    0.5", "x       10.25  best of all"]
    )
    assert text_table(rows[:1], align="<>", least=(6, 4), gap=1) == "model   AUC note"
    assert text_table([]) == ""


def test_a_markdown_table() -> None:
    assert markdown_table(["a", "b"], [["1", "2"], ["3", ""]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |"
