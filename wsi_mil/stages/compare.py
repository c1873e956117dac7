"""compare: two models of a run on the same held-out slides, paired."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from wsi_mil.bags import Split
from wsi_mil.config import RunConfig
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation.comparison import SlideComparison, compare_annotated, compare_slides
from wsi_mil.evaluation.measure import compare_all
from wsi_mil.evaluation.paired import PairedDifference
from wsi_mil.evaluation.predictions import observe_predictions
from wsi_mil.evaluation.slide_level import observe_slides
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.io.json import without_nan, write_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import held_out, read_truth
from wsi_mil.tasks import Task, task_class

FORMAT = 2  # 1: intervals from one shared random generator; undefined differences without reason


def run_compare(config: RunConfig, first: str, second: str) -> dict[str, Any]:
    """Write evaluation/<first>_against_<second>.json and return it.

    For every metric of the levels `slide`, `patch` and `froc`: both values, their difference (first minus second),
    its interval and two-sided p, by bootstrap over patients; for the slide AUC DeLong's test as well. `reasons` says
    why a difference is undefined.

    Slides that only one of the models has scored are left out; those whose lesions are not known are named. Raises
    DataError for an unknown model.
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
    rows = [{row.slide_id: row for row in model.rows} for model in found]
    shared = sorted(rows[0].keys() & rows[1].keys())
    if not shared:
        raise DataError(f"{first} and {second} have no test slide in common")
    chosen = [_chosen(table, shared) for table in rows]
    kind = task_class(config.task.kind)
    result: dict[str, Any] = {
        "kind": "comparison",
        "format_version": FORMAT,
        "first": first,
        "second": second,
        "split_digest": split.digest(),
        "slides": len(shared),
        "slide": _slide_differences(chosen, models, spec, kind),
    }
    if config.annotations is not None and kind.kind == "detection":
        truth = [read_truth(run, name, model, spec) for name, model in zip(models, found, strict=True)]
        slides = [{slide.slide_id: slide for slide in part} for part, _ in truth]
        known = sorted(slides[0].keys() & slides[1].keys())
        one_known, other_known = ([part[slide_id] for slide_id in known] for part in slides)
        annotated = compare_annotated(one_known, other_known, models, spec)
        result["patch"], result["froc"] = _level(annotated.patch), _level(annotated.froc)
        result["slides_without_annotation"] = sorted({*truth[0][1], *truth[1][1]})
    result = without_nan(result)
    write_json(run.path / "evaluation" / f"{first}_against_{second}.json", result)
    return result


def _chosen(rows: Mapping[str, SlideScoreRow], slide_ids: Sequence[str]) -> list[SlideScoreRow]:
    return [rows[slide_id] for slide_id in slide_ids]


def _slide_differences(
    rows: Sequence[Sequence[SlideScoreRow]], models: tuple[str, str], spec: EvaluationSpec, task: type[Task]
) -> dict[str, Any]:
    """Compare the slides of two models: of detection with DeLong's test, of other tasks by bootstrap alone."""
    if task.kind == "detection":
        one, other = (observe_slides(part) for part in rows)
        return _slide_level(compare_slides(one, other, models, spec))
    first, second = (observe_predictions(part, task.reading) for part in rows)
    return _level(compare_all(first, second, spec.seed, models, spec.bootstrap, task.kind))


def _slide_level(found: SlideComparison) -> dict[str, Any]:
    level = _level(found.differences)
    if found.delong is not None:
        return {**level, "delong": asdict(found.delong)}
    return {**level, "reasons": {**level.get("reasons", {}), "delong": found.delong_reason}}


def _level(differences: Mapping[str, PairedDifference]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, difference in differences.items():
        found[name] = {key: value for key, value in asdict(difference).items() if key != "reason"}
    reasons = {name: one.reason for name, one in differences.items() if one.reason}
    return {**found, "reasons": reasons} if reasons else found
