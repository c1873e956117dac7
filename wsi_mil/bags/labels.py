"""labels.csv: one label per slide, and what else is known of it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.bags.camelyon import read_camelyon
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError, nearest
from wsi_mil.io.tables import read_cells
from wsi_mil.tasks import Detection, Task, TaskSpec, build_task, task_class
from wsi_mil.tasks.base import Cells
from wsi_mil.tasks.classes import ClassTask, class_index
from wsi_mil.tasks.names import columns_of

ID_COLUMNS = ("slide", "slide_id")
SHOWN_PROBLEMS = 5
DETECTION = Detection()
Row = dict[str, str]


@dataclass(frozen=True)
class LabelTable:
    """All rows by slide id, the class names in the order of their indices, and the task."""

    rows: dict[str, SlideLabel]
    class_names: tuple[str, ...]
    task: Task = DETECTION

    def mpp_of(self, slide_id: str) -> float | tuple[float, float] | None:
        """Return the scale that the table gives a slide, in µm/px; None if it gives none."""
        row = self.rows.get(slide_id)
        return row.mpp if row else None


def read_labels(
    path: Path, class_names: tuple[str, ...] | None = None, spec: TaskSpec | None = None
) -> LabelTable:
    """Return the labels of a CSV table with one row for each slide.

    Columns: `slide` (or `slide_id`), those of the task (`spec`, default: detection), and where they are known
    patient, centre, split, mpp (or mpp_x and mpp_y). The table may have other columns. The task reads `label`
    (detection, classification, ordinal), `value` (regression), or `time` and `event` (survival);
    `spec.columns` gives them other names. An empty cell means that the slide has no label.

    Class labels are names or numbers; sorted, they become the indices 0, 1, ... unless `class_names` gives
    the order. Camelyon's own tables are recognised by their first row (`bags/camelyon.py`).

    Raises DataError that lists the first five problems with their line numbers.
    """
    if not path.is_file():
        raise DataError(f"no labels at {path}: give slides.labels=PATH to a CSV with the columns slide,label")
    spec = spec or TaskSpec()
    has_classes = issubclass(task_class(spec.kind), ClassTask)
    if has_classes and (camelyon := read_camelyon(path, class_names)) is not None:
        return LabelTable(*camelyon, build_task(spec, [], camelyon[1]))
    rows, id_column, names = _read_table(path, spec)
    cells: list[Cells] = [{role: row[name] for role, name in names.items()} for _, row in rows]
    task = build_task(spec, cells, class_names)
    problems = [*_identity_problems(rows, id_column), *task.problems(cells)]
    labels: dict[str, SlideLabel] = {}
    for (line, row), own in zip(rows, cells, strict=True):
        if not row[id_column]:  # already among the problems
            continue
        try:
            labels[row[id_column]] = _label(row, row[id_column], task, own, names)
        except (ValueError, DataError) as error:
            problems.append(f"line {line}: {error}")
    if problems:
        more = f" and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise DataError(f"{path}: " + "; ".join(problems[:SHOWN_PROBLEMS]) + more)
    if not labels:
        columns = ("slide", *names.values())
        raise DataError(
            f"{path} holds no slide: expected one row per slide under the header {','.join(columns)}"
        )
    return LabelTable(labels, task.class_names, task)


def _read_table(path: Path, spec: TaskSpec) -> tuple[list[tuple[int, Row]], str, dict[str, str]]:
    """Return (line number, cells) of each row, the column of slide ids, and the column of each role of the
    task."""
    names = columns_of(spec)
    lines = read_cells(path)
    columns = [name.strip().lower() for name in lines[0]] if lines else []
    id_column = next((name for name in ID_COLUMNS if name in columns), None)
    missing = [role for role, name in names.items() if name not in columns]
    if id_column is None or missing:
        found = ", ".join(columns) or "an empty file"
        # the name that is missing may be one that the user gave, or could give, under `task.columns`
        hint = f": name yours with task.columns.{missing[0]}=COLUMN" if missing and columns else ""
        raise DataError(
            f"{path}: task {spec.kind} needs the columns slide and {' and '.join(names.values())}, found "
            f"{found}{hint}"
        )
    rows = []
    for line, cells in enumerate(lines[1:], start=2):
        if cells:  # a blank line has none
            padded = [*cells, *[""] * len(columns)]
            rows.append((line, {k: v.strip() for k, v in zip(columns, padded, strict=False) if k}))
    return rows, id_column, names


def _identity_problems(rows: list[tuple[int, Row]], id_column: str) -> list[str]:
    seen = Counter(row[id_column] for _, row in rows)
    repeated = [
        f"slide {name!r} has {count} rows, expected one" for name, count in seen.items() if name and count > 1
    ]
    return [*repeated, *(f"line {line}: no slide id" for line, row in rows if not row[id_column])]


def _label(row: Row, slide_id: str, task: Task, cells: Cells, names: dict[str, str]) -> SlideLabel:
    """Return the label of one row. Raises ValueError for a cell that cannot be read."""
    mpp = _override(row)
    try:
        target = task.encode(cells)
    except ValueError as error:
        raise ValueError(f"column {' and '.join(names.values())}: {error}") from error
    if isinstance(task, ClassTask) and target is not None:
        label, value = class_index(target), None
    else:
        label, value = None, target
    patient = row.get("patient") or row.get("case_id") or slide_id
    return SlideLabel(slide_id, label, patient, row.get("centre", ""), row.get("split", ""), mpp, value)


def _override(row: dict[str, str]) -> float | tuple[float, float] | None:
    values = {}
    for name in ("mpp", "mpp_x", "mpp_y"):
        if row.get(name):
            try:
                values[name] = float(row[name])
            except ValueError:
                raise ValueError(f"{name} must be a number in µm per pixel, got {row[name]!r}") from None
            if not 0 < values[name] < 1000:
                raise ValueError(f"{name} must be a positive number of µm per pixel, got {row[name]!r}")
    if "mpp_x" in values or "mpp_y" in values:
        if "mpp_x" not in values or "mpp_y" not in values:
            raise ValueError("mpp_x and mpp_y must both be given")
        return (values["mpp_x"], values["mpp_y"])
    return values.get("mpp")


def check_against_slides(labels: LabelTable, slide_ids: set[str], path: Path) -> tuple[list[str], list[str]]:
    """Return (labels without a slide, slides without a label), sorted. Raises DataError if no label has a
    slide."""
    labelled = {name for name, row in labels.rows.items() if row.target is not None}
    if not labelled & slide_ids:
        example = next(iter(sorted(labels.rows)))
        raise DataError(
            f"none of the {len(labels.rows)} slide ids in {path} is among the {len(slide_ids)} slides "
            f"found; the CSV says {example!r}, the folder has "
            f"{nearest(example, sorted(slide_ids)) if slide_ids else 'no slide'}. "
            "An id is the path below the slide folder, without its ending"
        )
    return sorted(set(labels.rows) - slide_ids), sorted(slide_ids - labelled)
