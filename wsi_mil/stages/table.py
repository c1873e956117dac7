"""The table of stages, in the order of the data. The pipeline and its plan are made from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from wsi_mil.execution.processes import need_in_workers, start_server
from wsi_mil.execution.spec import ExecutionSpec

if TYPE_CHECKING:
    from wsi_mil.run.context import RunContext


@dataclass(frozen=True)
class Stage:
    """One stage: the function `run(context)` of the module wsi_mil.stages.<name>.

    `description` is what `wsi-mil <name> --help` says; `unit`, what the stage counts. `needs_torch`: whether
    its workers need it.
    """

    name: str
    description: str
    unit: str = "slide"
    needs_labels: bool = False
    needs_torch: bool = True

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the modules that worker processes of this stage import."""
        own = f"wsi_mil.stages.{self.name}"
        return ("torch", own) if self.needs_torch else (own,)

    def run(self, context: "RunContext") -> int:
        """Do what is not up to date; return how many slides (models, pages) needed work."""
        return int(import_module(f"wsi_mil.stages.{self.name}").run(context))


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "tile",
            "Find tissue and lay a grid of tiles over it. Writes tile tables, editable outlines "
            "(tissue/*.geojson) and previews.",
            needs_torch=False,
        ),
        Stage(
            "extract",
            "Encode every tile and write the features. Finished slides are not encoded again.",
        ),
        Stage(
            "train",
            "Train every model of CONFIG on every fold, repeat and seed, in parallel. The epoch and the "
            "threshold are chosen on validation slides. Prints a table of the models on test slides.",
            unit="model",
            needs_labels=True,
        ),
        Stage(
            "score",
            "Score slides and tiles: each slide by the model of a fold that was not trained on it.",
            needs_labels=True,
        ),
        Stage(
            "heatmap",
            "Write a PNG overlay, a pyramidal OME-TIFF and GeoJSON for QuPath for every scored slide.",
            needs_labels=True,
            needs_torch=False,
        ),
        Stage(
            "evaluate",
            "Write metrics.json and curves for the held-out slides, with bootstrap intervals.",
            unit="model",
            needs_labels=True,
            needs_torch=False,
        ),
        Stage(
            "report",
            "Write report.html from what the run folder holds.",
            unit="page",
            needs_torch=False,
        ),
    )
}


def prepare_workers(stages: Iterable[Stage], execution: ExecutionSpec, at_once: bool = True) -> None:
    """Start the server that workers of this machine are forked from; it imports what the stages need.

    at_once: False where there may be nothing to do. The server then starts before the first worker.
    """
    if execution.backend != "dask":
        modules = [module for stage in stages for module in stage.modules]
        start_server(*modules) if at_once else need_in_workers(*modules)
