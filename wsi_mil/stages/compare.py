"""compare: two fitted models of a run on the same held-out slides, paired.

It says which of two fitted models is better on other slides. Methods are compared over trainings:
`wsi_mil.run.method_comparison`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wsi_mil.bags import Split
from wsi_mil.config import RunConfig
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation.comparison import (
    AnnotatedComparison,
    SlideComparison,
    compare_annotated,
    compare_slides,
)
from wsi_mil.evaluation.measure import compare_all
from wsi_mil.evaluation.methods import holm
from wsi_mil.evaluation.paired import PairedDifference
from wsi_mil.evaluation.predictions import observe_predictions
from wsi_mil.evaluation.slide_level import observe_slides
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.execution import ExecutionSpec
from wsi_mil.io.json import without_nan, write_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import HeldOut, held_out, read_truth, refuse_other_labels
from wsi_mil.tasks import Task, task_class

FORMAT = 3
"""1: intervals from one shared random generator, undefined differences without reason. 2: without p_holm."""


@dataclass(frozen=True)
class ModelComparison:
    """Two models on the slides that both have scored: `first` minus `second` for every metric.

    slides: how many there are. slide: metrics of slides. annotated: metrics of tiles and lesions; None where
    no outlines are given, and for tasks other than detection. slides_without_annotation: positive slides that
    lack them.
    """

    first: str
    second: str
    split_digest: str
    slides: int
    slide: SlideComparison
    annotated: AnnotatedComparison | None = None
    slides_without_annotation: tuple[str, ...] = ()

    def levels(self) -> dict[str, Mapping[str, PairedDifference]]:
        """Return level -> metric -> difference, for the levels that were compared."""
        found = {"slide": self.slide.differences}
        if self.annotated is not None:
            found |= {"patch": self.annotated.patch, "froc": self.annotated.froc}
        return found

    def adjusted(self) -> dict[tuple[str, str], float]:
        """Return (level, metric) -> p after Holm's correction over all metrics that were compared."""
        levels = self.levels()
        keys = [(level, metric) for level, found in levels.items() for metric in found]
        p_values = holm([levels[level][metric].p_two_sided for level, metric in keys])
        return dict(zip(keys, p_values, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file; NaN is null."""
        levels = {level: _level_json(differences) for level, differences in self.levels().items()}
        for (level, metric), p in self.adjusted().items():
            levels[level][metric]["p_holm"] = p
        if self.slide.delong is not None:
            levels["slide"]["delong"] = asdict(self.slide.delong)
        elif self.slide.delong_reason:
            levels["slide"].setdefault("reasons", {})["delong"] = self.slide.delong_reason
        found: dict[str, Any] = {
            "kind": "comparison",
            "format_version": FORMAT,
            "first": self.first,
            "second": self.second,
            "split_digest": self.split_digest,
            "slides": self.slides,
            **levels,
        }
        if self.annotated is not None:
            found["slides_without_annotation"] = list(self.slides_without_annotation)
        return dict(without_nan(found))


def run_compare(config: RunConfig, first: str, second: str) -> ModelComparison:
    """Write evaluation/<first>_against_<second>.json and return what it holds.

    For every metric: both values, their difference, its interval and two-sided p by bootstrap over patients;
    for the slide AUC of detection also DeLong's test.

    Slides that only one of the models has scored are left out. Raises DataError for an unknown model.
    """
    if unknown := [name for name in (first, second) if name not in config.models]:
        raise DataError(f"no model {unknown[0]!r} in this run: it has {', '.join(config.models)}")
    if first == second:
        raise DataError(f"--compare needs two different models, got {first!r} twice")
    run, spec, models = RunFolder(config.run), config.evaluation, (first, second)
    if not run.split.exists():
        raise StoreError(f"no split at {run.split}: run `wsi-mil train` first")
    split = Split.load(run.split)
    found = [held_out(run, name, split, config.annotations, spec) for name in models]
    refuse_other_labels(second, found[1].labels, found[0].labels)
    rows = [{row.slide_id: row for row in model.rows} for model in found]
    shared = sorted(rows[0].keys() & rows[1].keys())
    if not shared:
        raise DataError(f"{first} and {second} have no test slide in common")
    chosen = [[scored[slide_id] for slide_id in shared] for scored in rows]
    task = task_class(config.task.kind)
    annotated: AnnotatedComparison | None = None
    without: tuple[str, ...] = ()
    if config.annotations is not None and task.kind == "detection":
        annotated, without = _compare_annotated(run, models, found, spec, config.execution)
    slide = _compare_slides(chosen, models, spec, task)
    result = ModelComparison(first, second, split.digest(), len(shared), slide, annotated, without)
    write_json(run.model_comparison(first, second), result.as_json())
    return result


def _compare_slides(
    rows: Sequence[Sequence[SlideScoreRow]], models: tuple[str, str], spec: EvaluationSpec, task: type[Task]
) -> SlideComparison:
    """Compare the slides of two models: of detection with DeLong's test, of other tasks by bootstrap
    alone."""
    if task.kind == "detection":
        one, other = (observe_slides(part) for part in rows)
        return compare_slides(one, other, models, spec)
    first, second = (observe_predictions(part, task.reading) for part in rows)
    return SlideComparison(compare_all(first, second, spec.seed, models, spec.bootstrap, task.kind), None)


def _compare_annotated(
    run: RunFolder,
    models: tuple[str, str],
    found: Sequence[HeldOut],
    spec: EvaluationSpec,
    execution: ExecutionSpec,
) -> tuple[AnnotatedComparison, tuple[str, ...]]:
    """Compare tiles and lesions of the slides whose lesions are known; return also the slides where they are
    not."""
    truth = [read_truth(run, name, model, spec, execution) for name, model in zip(models, found, strict=True)]
    slides = [{slide.slide_id: slide for slide in part} for part, _ in truth]
    known = sorted(slides[0].keys() & slides[1].keys())
    one, other = ([part[slide_id] for slide_id in known] for part in slides)
    return compare_annotated(one, other, models, spec), tuple(sorted({*truth[0][1], *truth[1][1]}))


def _level_json(differences: Mapping[str, PairedDifference]) -> dict[str, Any]:
    """Return metric -> difference, and under `reasons` why a difference is undefined."""
    found: dict[str, Any] = {}
    for name, difference in differences.items():
        found[name] = {key: value for key, value in asdict(difference).items() if key != "reason"}
    reasons = {name: one.reason for name, one in differences.items() if one.reason}
    return {**found, "reasons": reasons} if reasons else found
