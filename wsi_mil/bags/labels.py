"""labels.csv: one label per slide, and what else is known of it."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.bags.camelyon import read_camelyon
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError, nearest

ID_COLUMNS = ("slide", "slide_id")


@dataclass(frozen=True)
class LabelTable:
    """All rows by slide id, and the class names in the order of their indices."""

    rows: dict[str, SlideLabel]
    class_names: tuple[str, ...]

    def mpp_of(self, slide_id: str) -> float | tuple[float, float] | None:
        row = self.rows.get(slide_id)
        return row.mpp if row else None


def read_labels(path: Path, class_names: tuple[str, ...] | None = None) -> LabelTable:
    """Return the labels of a CSV with the columns slide, label and perhaps patient, centre, split, mpp (or mpp_x, mpp_y).

    Labels are class names or numbers; sorted, they become the indices 0, 1, ... unless `class_names` gives an order.
    Other columns are passed over. Camelyon's own files are known by their first row (`bags/camelyon.py`). All problems are told at once, with their line numbers (DataError).
    """
    if not path.is_file():
        raise DataError(f"no labels at {path}: give slides.labels=PATH to a CSV with the columns slide,label")
    if (camelyon := read_camelyon(path, class_names)) is not None:
        return LabelTable(*camelyon)
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        columns = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        id_column = next((name for name in ID_COLUMNS if name in columns), None)
        if id_column is None or "label" not in columns:
            raise DataError(
                f"{path}: expected the columns slide and label, found {columns or 'an empty file'}"
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
    found = sorted({row["label"] for _, row in rows if row["label"]}, key=_label_order)
    names = class_names or tuple(found)
    problems += [f"label {label!r} is none of {list(names)}" for label in found if label not in names]
    labels: dict[str, SlideLabel] = {}
    for line, row in rows:
        try:
            mpp = _override(row)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        slide_id = row[id_column]
        label = names.index(row["label"]) if row["label"] in names else None
        patient = row.get("patient") or row.get("case_id") or slide_id
        labels[slide_id] = SlideLabel(
            slide_id, label, patient, row.get("centre", ""), row.get("split", ""), mpp
        )
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{path}: " + "; ".join(problems[:5]) + more)
    if not labels:
        raise DataError(f"{path} holds no slide: expected one row per slide under the header slide,label")
    return LabelTable(labels, names)


def _label_order(label: str) -> tuple[bool, float, str]:
    """Numbers by value, then words by letter."""
    try:
        return (False, float(label), label)
    except ValueError:
        return (True, 0.0, label)


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
    labelled = {name for name, row in labels.rows.items() if row.label is not None}
    if not labelled & slide_ids:
        example = next(iter(sorted(labels.rows)))
        raise DataError(
            f"none of the {len(labels.rows)} slide ids in {path} is among the {len(slide_ids)} slides found; the CSV "
            f"says {example!r}, the folder has {nearest(example, sorted(slide_ids)) if slide_ids else 'no slide'}. "
            "An id is the path below the slide folder, without its ending"
        )
    return sorted(set(labels.rows) - slide_ids), sorted(slide_ids - labelled)
