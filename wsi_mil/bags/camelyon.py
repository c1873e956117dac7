"""Camelyon's own lists of labels, as their owners publish them.

Camelyon16 `reference.csv`: no header, rows `test_001,Tumor,...`. Camelyon17 `stage_labels.csv`: header
`patient,stage`, a row per patient (`patient_000.zip,pN1`) and one per slide (`patient_000_node_0.tif,macro`).
"""

import re
from pathlib import Path

from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError
from wsi_mil.io.user_tables import Line, UserTable, read_user_table

BINARY = ("normal", "tumor")
NODES = ("negative", "itc", "micro", "macro")
PATIENTS_PER_CENTRE = 20
Labels = tuple[dict[str, SlideLabel], tuple[str, ...]]


def read_camelyon(path: Path, table: UserTable, class_names: tuple[str, ...] | None = None) -> Labels | None:
    """Return (labels by slide id, class names) of one of Camelyon's files, or None if `table`, the rows of
    `path`, is none of them.

    Slides of stage_labels.csv carry their patient and centre (20 patients each, in order). With class_names
    of two, its classes become `negative` and the rest: the first name, and the second. Raises DataError that
    names the line.
    """
    rows = table.lines
    first = [cell.lower() for cell in rows[0].cells] if rows else []
    if len(first) >= 2 and first[1] in BINARY and not first[0].startswith("slide"):
        return _reference(path, rows, class_names)
    if first[:2] == ["patient", "stage"]:
        return _stage_labels(path, rows, class_names)
    return None


def _reference(path: Path, rows: list[Line], class_names: tuple[str, ...] | None) -> Labels:
    names = class_names or BINARY
    labels = {}
    for one in rows:
        line, row = one.number, one.cells
        if one.is_blank:
            continue
        if len(row) < 2 or row[1].lower() not in BINARY:
            raise DataError(
                f"{path}, line {line}: expected `slide,Normal` or `slide,Tumor`, got {','.join(row)!r}"
            )
        slide_id = _without_ending(row[0])
        labels[slide_id] = SlideLabel(slide_id, BINARY.index(row[1].lower()), slide_id, split="test")
    return labels, _two_or_all(path, names, BINARY)


def _stage_labels(path: Path, rows: list[Line], class_names: tuple[str, ...] | None) -> Labels:
    names = class_names or NODES
    labels = {}
    for one in rows[1:]:
        line, row = one.number, one.cells
        if one.is_blank or row[0].endswith(".zip"):
            continue  # a patient's stage follows from its slides
        node = re.fullmatch(r"(patient_(\d+))_node_\d+", _without_ending(row[0]))
        if node is None or len(row) < 2 or row[1].lower() not in NODES:
            raise DataError(
                f"{path}, line {line}: expected `patient_000_node_0.tif,` and one of {', '.join(NODES)}, got "
                f"{','.join(row)!r}"
            )
        label = NODES.index(row[1].lower())
        centre = str(int(node[2]) // PATIENTS_PER_CENTRE % 5)
        labels[node[0]] = SlideLabel(node[0], min(label, len(names) - 1), node[1], centre)
    return labels, _two_or_all(path, names, NODES)


def _without_ending(name: str) -> str:
    return name[:-4] if name.lower().endswith(".tif") else name


def _two_or_all(path: Path, names: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) not in (2, len(own)):
        raise DataError(
            f"{path} has the classes {', '.join(own)}: give slides.class_names of two or of all, got "
            f"{list(names)}"
        )
    return names


def read_stages(path: Path) -> dict[str, str]:
    """Return the pN-stage of every patient that stage_labels.csv states."""
    rows = [line.cells for line in read_user_table(path).lines[1:]]
    return {row[0][:-4]: row[1] for row in rows if len(row) >= 2 and row[0].endswith(".zip")}
