"""What the configuration says of the task."""

from typing import Any

from pydantic import Field

from wsi_mil.contracts.spec import Spec


class TaskSpec(Spec):
    """`kind`: a name of `wsi_mil.tasks.names.TASKS`. `params`: settings of that task."""

    kind: str = Field(
        "detection",
        description="what a label means: detection (a normal class and others), classification, ordinal, "
        "regression, survival, discrete_survival",
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="of the task, such as bins of discrete_survival"
    )
