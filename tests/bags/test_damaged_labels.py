"""Damaged label tables of every form: labels, or our own error in one line with the file's name."""

import io
import random
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from tests.damage import inputs, show
from tests.evaluation.annotations.test_damage import damaged
from wsi_mil.bags import read_labels
from wsi_mil.errors import WsiMilError

ROWS = [
    ["slide", "label", "patient_id"],
    *([f"s{n}", "tumor" if n % 2 else "normal", f"p{n}é"] for n in range(9)),
]


def text(separator: str) -> str:
    return "\r\n".join(separator.join(row) for row in ROWS) + "\r\n"


def workbook() -> bytes:
    book, packed = openpyxl.Workbook(), io.BytesIO()
    assert book.active is not None
    for row in ROWS:
        book.active.append(row)
    book.save(packed)
    return packed.getvalue()


WHOLE: dict[str, Callable[[], bytes]] = {
    "comma.csv": lambda: text(",").encode(),
    "semicolon.csv": lambda: text(";").encode("cp1252"),
    "tab.csv": lambda: text("\t").encode("utf-16"),
    "book.xlsx": workbook,
}


@pytest.mark.parametrize("name", WHOLE)
def test_only_our_own_errors_come_out_of_damaged_label_tables(name: str, tmp_path: Path) -> None:
    path, raw, outcomes = tmp_path / name, WHOLE[name](), []
    path.write_bytes(raw)
    assert len(read_labels(path).rows) == 9
    for seed in range(inputs("labels", len(WHOLE))):
        path.write_bytes(damaged(raw, random.Random(seed)))
        said = ""
        try:
            read_labels(path)
        except WsiMilError as error:
            said = str(error)
        assert not said or (name in said and "\n" not in said)
        outcomes.append("refused" if said else "read")
    show("labels", name, outcomes)
    assert set(outcomes) == {"read", "refused"}
