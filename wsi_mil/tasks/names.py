"""The registry of tasks: how a task is built from a configuration or from a saved model."""

from dataclasses import asdict, fields
from typing import Any

from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.errors import ConfigError, ModelError
from wsi_mil.registry import FolderRegistry
from wsi_mil.tasks.base import Cells, Task
from wsi_mil.tasks.spec import TaskSpec
from wsi_mil.trust import is_reference

TASKS = FolderRegistry("task", "wsi_mil.tasks.kinds", "TASK", "wsi_mil.tasks")


def task_class(name: str) -> type[Task]:
    """Return the class of the task `name`. Raises ConfigError if there is none, or if it is not a task.

    >>> task_class("discrete_survival").kind
    'survival'
    """
    found = TASKS.load(name)
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConfigError(f"task.kind: {name!r} is no task: it must derive from wsi_mil.tasks.Task")
    return found


def build_task(
    spec: TaskSpec, cells: list[Cells] | None = None, class_names: tuple[str, ...] | None = None
) -> Task:
    """Return the task of a configuration for the rows `cells` of a label table.

    `class_names`: the classes in the order of their indices; None: the order that the task gives the labels
    it finds. Raises ConfigError for a setting or a column that the task does not have.

    >>> build_task(TaskSpec(), [{"label": "tumour"}, {"label": "normal"}]).class_names
    ('normal', 'tumour')
    """
    columns_of(spec)
    return task_class(spec.kind).for_table(cells or [], class_names, **spec.params)


def columns_of(spec: TaskSpec) -> dict[str, str]:
    """Return the column of the label table for each name in `Task.columns`. Raises ConfigError for other
    names.

    >>> columns_of(TaskSpec(kind="survival", columns={"time": "Months"}))
    {'time': 'months', 'event': 'event'}
    """
    roles = task_class(spec.kind).columns
    if unknown := sorted(set(spec.columns) - set(roles)):
        raise ConfigError(
            f"task.columns.{unknown[0]}: {spec.kind} reads no such column, it reads {', '.join(roles)}"
        )
    return {role: spec.column(role) for role in roles}


def task_values(task: Task) -> dict[str, Any]:
    """Return a task as plain values for a file: its name and its fields.

    >>> task_values(task_class("regression")())
    {'kind': 'regression', 'class_names': (), 'mean': 0.0, 'std': 1.0}
    """
    values = {"kind": task_name(task), **asdict(task)}
    if values.get("scheme", "") is None:
        del values["scheme"]
    return values


def labels_beyond_order(task: Task) -> dict[str, Any]:
    """Return what a digest of inputs needs to know of the classes beside their order: nothing where only the
    first one is negative, as in every run of earlier versions.

    >>> from wsi_mil.tasks import Detection
    >>> labels_beyond_order(Detection(("normal", "tumour")))
    {}
    """
    return {"negative": list(task.labels.negative)} if task.labels and task.negative_classes > 1 else {}


def task_name(task: Task) -> str:
    """Return the name under which a task is registered; package.module:Name for one that is not.

    >>> from wsi_mil.tasks import Detection
    >>> task_name(Detection())
    'detection'
    """
    place = f"{type(task).__module__}:{type(task).__qualname__}"
    own = type(task).__module__.removeprefix(f"{TASKS.package}.")
    if own in TASKS.own and TASKS.load(own) is type(task):
        return own
    return next((name for name, where in TASKS.offered.items() if where == place), place)


def task_from_values(values: dict[str, Any]) -> Task:
    """Return the task that `task_values` wrote.

    Raises ModelError for a name that no installed package registers, and TrustError for a
    package.module:Name that is not trusted.
    """
    name = str(values["kind"])
    if name not in list(TASKS) and not is_reference(name):
        raise ModelError(f"the model was trained for the task {name!r}, which no installed package offers")
    found = task_class(name)
    known = {field.name for field in fields(found)}
    if "scheme" in values:
        values = {**values, "scheme": LabelScheme.from_json(values["scheme"])}
    return found(**{key: _as_tuple(value) for key, value in values.items() if key in known})


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
