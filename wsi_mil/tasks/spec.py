"""The block `task` of a configuration."""

from typing import Any

from pydantic import Field

from wsi_mil.contracts.spec import Spec


class TaskSpec(Spec):
    """What a label means, and where the label table holds it.

    >>> TaskSpec(kind="survival", columns={"time": "months", "event": "died"}).column("time")
    'months'
    """

    kind: str = Field(
        "detection",
        description="detection (a normal class and others), classification, ordinal, regression, survival, "
        "discrete_survival, or package.module:Name",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="columns of the label table that have other names than label, value, time or event, "
        "such as {time: months, event: died}",
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="settings of the task, such as bins of discrete_survival"
    )

    def column(self, role: str) -> str:
        """Return the name of the column that holds `role`, in lower case, as column names are compared."""
        return self.columns.get(role, role).strip().lower()
