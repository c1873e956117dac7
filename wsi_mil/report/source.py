"""What the sections of a report read: the run folder, and what several sections need of it, read once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from wsi_mil.bags.labels import LabelTable
from wsi_mil.contracts.labels import LabelScheme, TaskKind
from wsi_mil.contracts.scores import SlideScoreRow, SlideScoresHeader
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.evaluation.metrics_file import read_metrics
from wsi_mil.evaluation.results import MetricsFile
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.seals import DamagedFileError, current_digest, require_digest
from wsi_mil.logs import logger
from wsi_mil.paths import below
from wsi_mil.refine.evaluation import RefinementResult
from wsi_mil.refine.evaluation_file import read_refinement
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores

T = TypeVar("T")


@dataclass(frozen=True)
class ReportSource:
    """A run as the report sees it. models: names of the models that have slide scores. execution: how many
    workers open slides."""

    run: RunFolder
    slides: tuple[SlideSource, ...]
    reader: str
    labels: LabelTable | None
    models: tuple[str, ...]
    execution: ExecutionSpec = field(default_factory=ExecutionSpec)

    @cached_property
    def slide_ids(self) -> list[str]:
        """The slides of the cohort and of outcomes.csv, sorted."""
        rows = self.run.ledger.rows()
        return sorted({*(slide.slide_id for slide in self.slides), *(row.slide_id for row in rows)})

    @cached_property
    def slide_scores(self) -> dict[str, tuple[list[SlideScoreRow], SlideScoresHeader]]:
        """Model -> rows and header of slides.parquet."""
        return {name: read_slide_scores(self.run.slide_scores(name)) for name in self.models}

    @cached_property
    def scores(self) -> dict[str, dict[str, SlideScoreRow]]:
        """Model -> slide id -> row of slides.parquet."""
        return {name: {row.slide_id: row for row in rows} for name, (rows, _) in self.slide_scores.items()}

    def scheme(self, name: str) -> LabelScheme | None:
        """Return what the classes of a model's scores mean; None without classes, or in earlier files."""
        return self.slide_scores[name][1].scheme

    @cached_property
    def metrics(self) -> dict[str, MetricsFile]:
        """Model -> metrics.json, for the models that were evaluated by this version."""
        found = {name: read_metrics(self.run.evaluation(name) / "metrics.json") for name in self.models}
        return {name: metrics for name, metrics in found.items() if metrics is not None}

    @cached_property
    def refinements(self) -> dict[str, RefinementResult]:
        """Model -> refine.json, for evaluated models that were not trained again since."""
        paths = {name: self.run.evaluation(name) / "refine.json" for name in self.metrics}
        found = {name: read_refinement(path) for name, path in paths.items() if path.exists()}
        return {name: row for name, row in found.items() if self.are_current(name, row.model_digests)}

    def evaluation_file(self, name: str, file: str) -> Path | None:
        """Return the path of a file of a model's evaluation; None if it has none. Raises DamagedFileError for
        a file that is not what was written."""
        path = below(self.run.evaluation(name), file, "file of the evaluation", self.run.path)
        if not path.exists():
            return None
        expected = self.metrics[name].files.get(file) if name in self.metrics else None
        if expected is not None:
            require_digest(path, expected, current_digest(path) or "none", "run `wsi-mil evaluate`")
        return path

    def are_current(self, name: str, digests: Sequence[str]) -> bool:
        """Return whether these digests belong to the models that made today's scores of model `name`."""
        return set(digests) <= {row.model_digest for row in self.scores[name].values()}

    @property
    def task(self) -> TaskKind:
        """The kind of the run's task; without labels detection."""
        return self.labels.task.kind if self.labels else "detection"

    def label(self, slide_id: str) -> str:
        """Return a slide's label as people read it: class name, value or "time (event)"; "" without one."""
        row = self.labels.rows.get(slide_id) if self.labels else None
        if self.labels is None or row is None or row.target is None:
            return ""
        if isinstance(row.value, tuple):
            time, event = row.value
            return f"{time:g} ({'event' if event else 'censored'})"
        return f"{row.value:g}" if row.label is None else self.labels.class_names[row.label]


def undamaged(paths: Sequence[Path], read: Callable[[Path], T]) -> list[tuple[Path, T]]:
    """Return (path, content) of the files that exist. A damaged one is left out, and a warning names it and
    the command that makes it again: the other sections do not depend on it."""
    found = []
    for path in paths:
        try:
            if path.exists():
                found.append((path, read(path)))
        except DamagedFileError as error:
            logger().warning("report: left out: %s", error)
    return found
