"""Names of tasks, and how a task is built from a configuration or from a saved model."""

from dataclasses import asdict, fields
from typing import Any

from wsi_mil.errors import ConfigError, ModelError
from wsi_mil.registry import OpenRegistry
from wsi_mil.tasks.base import Cells, Task
from wsi_mil.tasks.spec import TaskSpec

TASKS = OpenRegistry(
    "task",
    {
        "detection": "wsi_mil.tasks.detection:Detection",
        "classification": "wsi_mil.tasks.classification:Classification",
        "ordinal": "wsi_mil.tasks.ordinal:Ordinal",
        "regression": "wsi_mil.tasks.regression:Regression",
        "survival": "wsi_mil.tasks.survival:Survival",
        "discrete_survival": "wsi_mil.tasks.discrete_survival:DiscreteSurvival",
    },
    group="wsi_mil.tasks",
)


def task_class(kind: str) -> type[Task]:
    """Return the class of the task `kind`. Raises ConfigError if there is none, or if it is no task.

    >>> task_class("detection").kind
    'detection'
    """
    found = TASKS.load(kind)
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConfigError(f"task.kind: {kind!r} is no task: it must derive from wsi_mil.tasks.Task")
    return found


def build_task(
    spec: TaskSpec, cells: list[Cells] | None = None, class_names: tuple[str, ...] | None = None
) -> Task:
    """Return the task of a configuration for the rows `cells` of a label table."""
    return task_class(spec.kind).for_table(cells or [], class_names, **spec.params)


def task_values(task: Task) -> dict[str, Any]:
    """Return a task as plain values for a file."""
    place = f"{type(task).__module__}:{type(task).__qualname__}"
    return {"kind": next((name for name in TASKS if TASKS[name] == place), place), **asdict(task)}


def task_from_values(values: dict[str, Any]) -> Task:
    """Return the task of `task_values`. Raises ModelError for a kind that is not registered: a file names no code."""
    kind = str(values["kind"])
    if kind not in list(TASKS):
        raise ModelError(f"the model was trained for the task {kind!r}, which no installed package offers")
    found = task_class(kind)
    known = {field.name for field in fields(found)}
    return found(**{key: _frozen(value) for key, value in values.items() if key in known})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
