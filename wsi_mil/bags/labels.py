"""labels.csv: one label per slide, and what else is known of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsi_mil.bags.camelyon import read_camelyon
from wsi_mil.bags.columns import ReadTable, assign_columns, slide_id_of
from wsi_mil.bags.patients import join_slide_table
from wsi_mil.contracts.labels import LabelScheme, SlideLabel
from wsi_mil.errors import ConfigError, DataError, nearest, one_line
from wsi_mil.io.user_tables import UserTable, read_user_table
from wsi_mil.logs import logger
from wsi_mil.paths import problem_of
from wsi_mil.slides.ids import slide_id_text
from wsi_mil.tasks import Detection, Task, TaskSpec, build_task, task_class
from wsi_mil.tasks.base import Cells
from wsi_mil.tasks.classes import ClassTask, class_index
from wsi_mil.tasks.names import columns_of
from wsi_mil.tasks.scheme import decide, name_classes, without_normal_class
from wsi_mil.tasks.words import says_no_label

SHOWN_PROBLEMS = 5
DETECTION = Detection()
Row = dict[str, str]


@dataclass(frozen=True)
class LabelTable:
    """All rows by slide id, the class names in the order of their indices, and the task."""

    rows: dict[str, SlideLabel]
    class_names: tuple[str, ...]
    task: Task = DETECTION
    has_patients: bool = True

    @property
    def scheme(self) -> LabelScheme | None:
        """What the classes mean; None for a task without classes."""
        return self.task.labels

    @property
    def line(self) -> str:
        """What the program says of the labels in one line: slides of each class, and which is positive."""
        known = [row for row in self.rows.values() if row.target is not None]
        text = f"labels: {len(known)} slides" if self.scheme is None else self.scheme.line
        if self.class_names:
            counts = Counter(row.label for row in known)
            text += "; slides: " + ", ".join(f"{name} {counts[i]}" for i, name in enumerate(self.class_names))
        if without := len(self.rows) - len(known):
            text += f"; without label: {without}"
        return text if self.has_patients else f"{text}; no patient column, each slide is a patient of its own"

    def mpp_of(self, slide_id: str) -> float | tuple[float, float] | None:
        """Return the scale that the table gives a slide, in µm/px; None if it gives none."""
        row = self.rows.get(slide_id)
        return row.mpp if row else None


@dataclass(frozen=True)
class LabelSource:
    """Where the labels of a run are and what the user says of them; see `slides` in the configuration.

    slide_table: the slides of each patient, where `path` has one row for each patient. columns: role ->
    column. positive: the positive classes.
    """

    path: Path
    class_names: tuple[str, ...] | None = None
    positive: tuple[str, ...] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    slide_table: Path | None = None


def read_labels(
    path: Path, class_names: tuple[str, ...] | None = None, spec: TaskSpec | None = None
) -> LabelTable:
    """Return the labels of a table with one row for each slide: see `read_label_source`."""
    return read_label_source(LabelSource(path, class_names), spec)


def read_label_source(source: LabelSource, spec: TaskSpec | None = None) -> LabelTable:
    """Return the labels of a table (CSV or .xlsx) with one row for each slide.

    Columns: the slide, those of the task (`spec`, default: detection), and where they are known patient,
    centre, split, mpp (or mpp_x and mpp_y), under any name in `wsi_mil.bags.columns`. The table may have
    other columns. The task reads `label` (detection, classification, ordinal), `value` (regression), or
    `time` and `event` (survival); `spec.columns` gives them other names. An empty cell, or a word such as NA,
    means that the slide has no label.

    Class labels are names or numbers. `wsi_mil.tasks.scheme` says which of them are one class and, for
    detection, which are positive. Camelyon's own tables are recognised by their first row.

    Raises DataError that lists the first five problems with their line numbers, and ConfigError where known
    words do not say which class is positive.
    """
    path, spec = source.path, spec or TaskSpec()
    if not path.is_file():
        raise DataError(f"no labels at {path}: give slides.labels=PATH to a CSV with the columns slide,label")
    has_classes = issubclass(task_class(spec.kind), ClassTask)
    if source.positive and spec.kind != "detection":
        raise ConfigError(
            f"slides.positive: task {spec.kind} has no positive class: leave it out, or set "
            "task.kind=detection"
        )
    table = read_user_table(path)
    if has_classes and (camelyon := read_camelyon(path, table, source.class_names)) is not None:
        return _camelyon_table(*camelyon, spec)
    read = _with_columns(source, table, spec)
    roles = tuple(columns_of(spec))
    cells = _task_cells(read, roles, source, has_classes)
    task = _task(spec, cells, source)
    return _labels(read, cells, task)


def _with_columns(source: LabelSource, table: UserTable, spec: TaskSpec) -> ReadTable:
    path, described, names = source.path, f"task {spec.kind}", columns_of(spec)
    if source.slide_table is not None:
        table = join_slide_table(path, table, source.slide_table, source.columns)
    return assign_columns(path, table, names, source.columns, described)


def _task_cells(read: ReadTable, roles: Sequence[str], source: LabelSource, has_classes: bool) -> list[Cells]:
    """Return the cells of the task's columns: class names, and "" for a word that says that there is none."""
    columns = {role: [row[role] for _, row in read.lines] for role in roles}
    for role, found in columns.items():
        if has_classes and role == "label":
            try:
                columns[role] = name_classes(found, source.class_names, source.positive or ())
            except ConfigError as error:
                raise ConfigError(f"{read.path}: {error}") from error
            _warn_of_missing_class(read.path, found, columns[role])
        else:
            columns[role] = ["" if says_no_label(cell) else cell for cell in found]
            if read.decimal_comma:
                columns[role] = [cell.replace(",", ".") for cell in columns[role]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _warn_of_missing_class(path: Path, cells: Sequence[str], names: Sequence[str]) -> None:
    """Warn if one class is left beside words such as `none`, which may have meant the other class."""
    left_out = Counter(cell for cell, name in zip(cells, names, strict=True) if cell and not name)
    classes = sorted(set(names) - {""})
    if len(classes) == 1 and left_out:
        word, count = left_out.most_common(1)[0]
        logger().warning(
            "%s: %d slides have the label %s, which is read as: no label. If it is a class, set "
            "slides.class_names=[%s,%s]",
            path,
            count,
            word,
            word,
            classes[0],
        )


def _task(spec: TaskSpec, cells: list[Cells], source: LabelSource) -> Task:
    """Return the task with the classes in their order and what they mean."""
    task = build_task(spec, cells, source.class_names)
    if not isinstance(task, ClassTask):
        return task
    if not isinstance(task, Detection):
        return replace(task, scheme=without_normal_class(task.class_names, task.kind))
    try:
        scheme = decide(task.class_names, source.positive, source.class_names is not None)
    except ConfigError as error:
        raise ConfigError(f"{source.path}: {error}") from error
    return replace(task, class_names=scheme.class_names, scheme=scheme)


def _labels(read: ReadTable, cells: list[Cells], task: Task) -> LabelTable:
    ids = _slide_ids([row["slide"] for _, row in read.lines])
    problems = [*_identity_problems(read, ids), *task.problems(cells)]
    labels: dict[str, SlideLabel] = {}
    for slide_id, (line, row), own in zip(ids, read.lines, cells, strict=True):
        if not slide_id:  # already among the problems
            continue
        try:
            labels[slide_id] = _label(row, slide_id, task, own, read)
        except (ValueError, DataError) as error:
            problems.append(f"line {line}: {error}")
    if problems:
        more = f" and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise DataError(f"{read.path}: " + "; ".join(problems[:SHOWN_PROBLEMS]) + more)
    if not labels:
        columns = ("slide", *(read.columns[role] for role in task.columns))
        raise DataError(
            f"{read.path} holds no slide: expected one row per slide under the header {','.join(columns)}"
        )
    return LabelTable(labels, task.class_names, task, "patient" in read.columns)


def _camelyon_table(labels: dict[str, SlideLabel], names: tuple[str, ...], spec: TaskSpec) -> LabelTable:
    task = build_task(spec, [], names)
    if isinstance(task, ClassTask) and not isinstance(task, Detection):
        task = replace(task, scheme=without_normal_class(names, task.kind))
    if isinstance(task, Detection):
        scheme = replace(LabelScheme.first_is_negative(names), decided="a table of Camelyon")
        task = replace(task, scheme=scheme)
    return LabelTable(labels, names, task)


def _slide_ids(cells: Sequence[str]) -> list[str]:
    """Return the slide ids: without the endings of files, unless two slides differ only in these."""
    short = [slide_id_of(cell) for cell in cells]
    count = Counter(zip(short, cells, strict=True))
    shared = Counter(name for name, _ in count)
    return [
        name if shared[name] == 1 else slide_id_text(cell.replace("\\", "/"))
        for name, cell in zip(short, cells, strict=True)
    ]


def _identity_problems(read: ReadTable, ids: Sequence[str]) -> list[str]:
    seen = Counter(ids)
    repeated = [
        f"slide {name!r} has {count} rows, expected one" for name, count in seen.items() if name and count > 1
    ]
    numbers = [line for line, _ in read.lines]
    return [
        *repeated,
        *(f"line {line}: no slide id" for line, name in zip(numbers, ids, strict=True) if not name),
        *(
            f"line {line}: slide id {one_line(name, 60)!r} {problem_of(name)}, expected a path below the "
            "slide folder"
            for line, name in zip(numbers, ids, strict=True)
            if name and problem_of(name)
        ),
    ]


def _label(row: Row, slide_id: str, task: Task, cells: Cells, read: ReadTable) -> SlideLabel:
    """Return the label of one row. Raises ValueError for a cell that cannot be read."""
    mpp = _override(row, read.decimal_comma)
    try:
        target = task.encode(cells)
    except ValueError as error:
        names = " and ".join(read.columns[role] for role in task.columns)
        raise ValueError(f"column {names}: {error}") from error
    if isinstance(task, ClassTask) and target is not None:
        label, value = class_index(target), None
    else:
        label, value = None, target
    patient = row.get("patient", "")
    patient = slide_id if says_no_label(patient) else patient
    return SlideLabel(slide_id, label, patient, row.get("centre", ""), row.get("split", ""), mpp, value)


def _override(row: Row, decimal_comma: bool) -> float | tuple[float, float] | None:
    values = {}
    for name in ("mpp", "mpp_x", "mpp_y"):
        if not says_no_label(row.get(name, "")):
            try:
                values[name] = float(row[name].replace(",", ".") if decimal_comma else row[name])
            except ValueError as error:
                raise ValueError(f"{name} must be a number in µm per pixel, got {row[name]!r}") from error
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
