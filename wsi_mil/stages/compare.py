"""compare: two models of a run on the same held-out slides, paired."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wsi_mil.bags import Split
from wsi_mil.config import RunConfig
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation.comparison import compare_annotated, compare_slides
from wsi_mil.io.files import write_json
from wsi_mil.io.json import without_nan
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import held_out, read_truth


def run_compare(config: RunConfig, first: str, second: str) -> dict[str, Any]:
    """Write evaluation/<first>_against_<second>.json and return it: per metric both values, their difference (first minus
    second), interval and p, by bootstrap over patients; for the slide AUC DeLong's test as well.

    Slides that either model could not be held to are left out and named. Raises DataError for an unknown model.
    """
    if unknown := [name for name in (first, second) if name not in config.models]:
        raise DataError(f"no model {unknown[0]!r} in this run: it has {', '.join(config.models)}")
    if first == second:
        raise DataError(f"--compare needs two different models, got {first!r} twice")
    run, spec = RunFolder(config.run), config.evaluation
    if not run.split.exists():
        raise StoreError(f"no split at {run.split}: run `wsi-mil train` first")
    split = Split.load(run.split)
    found = [held_out(run, name, split, config.annotations, spec) for name in (first, second)]
    shared = sorted({row.slide_id for row in found[0].rows} & {row.slide_id for row in found[1].rows})
    if not shared:
        raise DataError(f"{first} and {second} have no test slide in common")
    rng = np.random.default_rng(spec.seed)
    rows = [[by_id(model.rows)[slide_id] for slide_id in shared] for model in found]
    result: dict[str, Any] = {
        "kind": "comparison",
        "format_version": 1,
        "first": first,
        "second": second,
        "split_digest": split.digest(),
        "slides": len(shared),
        "slide": compare_slides(rows[0], rows[1], rng, spec.bootstrap),
    }
    if config.annotations is not None:
        truth = [
            read_truth(run, name, model, spec) for name, model in zip((first, second), found, strict=True)
        ]
        known = sorted({s.slide_id for s in truth[0][0]} & {s.slide_id for s in truth[1][0]})
        slides = [[{s.slide_id: s for s in part}[slide_id] for slide_id in known] for part, _ in truth]
        result |= compare_annotated(slides[0], slides[1], rng, spec)
        result["slides_without_annotation"] = sorted({*truth[0][1], *truth[1][1]})
    result = without_nan(result)
    write_json(run.path / "evaluation" / f"{first}_against_{second}.json", result)
    return result


def by_id(rows: Sequence[SlideScoreRow]) -> dict[str, SlideScoreRow]:
    return {row.slide_id: row for row in rows}
