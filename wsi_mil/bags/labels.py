"""labels.csv: one label per slide, and what else is known of it."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.bags.camelyon import read_camelyon
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError, nearest
from wsi_mil.tasks import Detection, Task, TaskSpec, build_task, task_class
from wsi_mil.tasks.base import Cells
from wsi_mil.tasks.classes import ClassTask, class_index

ID_COLUMNS = ("slide", "slide_id")
DETECTION = Detection()


@dataclass(frozen=True)
class LabelTable:
    """All rows by slide id, the class names in the order of their indices, and the task."""

    rows: dict[str, SlideLabel]
    class_names: tuple[str, ...]
    task: Task = DETECTION

    def mpp_of(self, slide_id: str) -> float | tuple[float, float] | None:
        row = self.rows.get(slide_id)
        return row.mpp if row else None


def read_labels(
    path: Path, class_names: tuple[str, ...] | None = None, spec: TaskSpec | None = None
) -> LabelTable:
    """Return the labels of a CSV with the columns slide, label and perhaps patient, centre, split, mpp (or mpp_x, mpp_y).

    Labels are class names or numbers; sorted, they become the indices 0, 1, ... unless `class_names` gives an order.
    Other tasks (`spec`) have other columns: regression value (or label), survival time and event.
    Other columns are passed over. Camelyon's own files are known by their first row (`bags/camelyon.py`). All problems are told at once, with their line numbers (DataError).
    """
    if not path.is_file():
        raise DataError(f"no labels at {path}: give slides.labels=PATH to a CSV with the columns slide,label")
    spec = spec or TaskSpec()
    kind = task_class(spec.kind)
    of_classes = issubclass(kind, ClassTask)
    if of_classes and (camelyon := read_camelyon(path, class_names)) is not None:
        return LabelTable(*camelyon, build_task(spec, [], camelyon[1]))
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        columns = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        id_column = next((name for name in ID_COLUMNS if name in columns), None)
        if id_column is None or not any(set(group) <= set(columns) for group in kind.columns):
            wanted = " or ".join(" and ".join(group) for group in kind.columns)
            raise DataError(
                f"{path}: expected the columns slide and {wanted}, found {columns or 'an empty file'}"
            )
        rows = [
            (line, {k: (v or "").strip() for k, v in row.items() if k})
            for line, row in enumerate(reader, start=2)
        ]
    problems = []
    seen = Counter(row[id_column] for _, row in rows)
    problems += [
        f"slide {name!r} stands in {count} rows" for name, count in seen.items() if name and count > 1
    ]
    problems += [f"line {line}: no slide id" for line, row in rows if not row[id_column]]
    cells: list[Cells] = [row for _, row in rows]
    task = build_task(spec, cells, class_names)
    problems += task.problems(cells)
    labels: dict[str, SlideLabel] = {}
    for line, row in rows:
        try:
            mpp = _override(row)
            target = task.encode(row)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        slide_id = row[id_column]
        label, value = (class_index(target), None) if of_classes and target is not None else (None, target)
        patient = row.get("patient") or row.get("case_id") or slide_id
        labels[slide_id] = SlideLabel(
            slide_id, label, patient, row.get("centre", ""), row.get("split", ""), mpp, value
        )
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{path}: " + "; ".join(problems[:5]) + more)
    if not labels:
        raise DataError(f"{path} holds no slide: expected one row per slide under the header slide,label")
    return LabelTable(labels, task.class_names, task)


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
    """Return (labels without a slide, slides without a label), sorted; raises DataError if nothing matches at all."""
    labelled = {name for name, row in labels.rows.items() if row.target is not None}
    if not labelled & slide_ids:
        example = next(iter(sorted(labels.rows)))
        raise DataError(
            f"none of the {len(labels.rows)} slide ids in {path} is among the {len(slide_ids)} slides found; the CSV "
            f"says {example!r}, the folder has {nearest(example, sorted(slide_ids)) if slide_ids else 'no slide'}. "
            "An id is the path below the slide folder, without its ending"
        )
    return sorted(set(labels.rows) - slide_ids), sorted(slide_ids - labelled)
