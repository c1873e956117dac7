"""Tasks: what a label means. One module for each task in `kinds/`; nothing here loads torch before a loss
is computed."""

from wsi_mil.tasks.base import Task, TaskLoss
from wsi_mil.tasks.kinds.detection import Detection
from wsi_mil.tasks.names import TASKS, build_task, task_class, task_from_values, task_values
from wsi_mil.tasks.spec import TaskSpec

__all__ = [
    "TASKS",
    "Detection",
    "Task",
    "TaskLoss",
    "TaskSpec",
    "build_task",
    "task_class",
    "task_from_values",
    "task_values",
]
