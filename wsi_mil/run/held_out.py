"""The held-out slides of a run, read from its folder: their scores, and their lesions where these are
known."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.bags import Split
from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError, MachineError
from wsi_mil.evaluation.annotations import AnnotationFolder, AnnotationRules, known_lesions
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import HeldOutSlide, held_out_slide
from wsi_mil.execution import ExecutionSpec, read_slides
from wsi_mil.execution.activity import activity
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.logs import logger
from wsi_mil.run.current import check_scores
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores, read_tile_scores

RULES_VERSION = 2
"""Changes when the same annotation files would give other lesions: metrics are then measured again."""


@dataclass(frozen=True)
class HeldOut:
    """The labelled test slides of one model.

    rows: one of slides.parquet for each slide. truth_files: the annotation file of each slide; None where
    there is none, where the slide is negative, and for tasks other than detection. inputs_digest: of
    everything that the metrics depend on. rules: how the annotation files are read. labels: what the classes
    meant when the slides were scored; None in files of earlier versions and for tasks without classes.
    """

    rows: tuple[SlideScoreRow, ...]
    truth_files: dict[str, Path | None]
    inputs_digest: str
    rules: AnnotationRules
    labels: LabelScheme | None = None


def held_out(
    run: RunFolder, name: str, split: Split, annotations: AnnotationFolder | None, spec: EvaluationSpec
) -> HeldOut:
    """Return the labelled test slides of model `name`.

    Raises DataError if the scores are of another split, or if no test slide has both a label and a score.
    """
    rows, header = read_slide_scores(run.slide_scores(name))
    if header.split_digest != split.digest():
        raise DataError(
            f"scores of model {name!r} are of split {header.split_digest}, the run's split is "
            f"{split.digest()}: run `wsi-mil score` again"
        )
    rows = [row for row in rows if row.part == "test" and row.labelled]
    if not rows:
        raise DataError(f"no test slide of model {name!r} has both a label and a score: see outcomes.csv")
    detection = header.task == "detection"
    truth_files = {row.slide_id: _annotation(annotations, row) if detection else None for row in rows}
    rules = annotations.rules if annotations else AnnotationRules()
    inputs = {
        "rows": [_measured(row) for row in rows],
        "models": sorted({row.model_digest for row in rows}),
        "truth": {key: digest_file(path) for key, path in truth_files.items() if path},
        "spec": spec.digest(),
        "bounds": rules.bounds,
        "second_kind": header.second_kind,
    }
    if any(truth_files.values()):
        inputs["rules"] = [rules.lesion_classes, RULES_VERSION]
    return HeldOut(tuple(rows), truth_files, digest_json(inputs), rules, header.scheme)


def refuse_other_labels(model: str, scored: LabelScheme | None, now: LabelScheme | None) -> None:
    """Raise DataError if the labels of the run mean something else than when model `model` scored slides."""
    if scored is None or now is None or scored.same_meaning(now):
        return
    raise DataError(
        f"scores of model {model!r} were made with {scored.line}, the run now has {now.line}: run "
        "`wsi-mil train` and `wsi-mil score` again"
    )


def _measured(row: SlideScoreRow) -> list[object]:
    """Return what the metrics take from a row."""
    if row.prediction is not None:
        return [row.slide_id, row.target, row.prediction, row.class_probabilities, row.tiles_digest]
    return [row.slide_id, row.label, row.probability, row.threshold, row.tiles_digest]


def _annotation(annotations: AnnotationFolder | None, row: SlideScoreRow) -> Path | None:
    return annotations.find(row.slide_id) if annotations is not None and row.positive else None


@dataclass(frozen=True)
class HeldOutJob:
    """A held-out slide that a worker reads, in values that pickle. outlines: the annotation file; None where
    no lesion is expected."""

    slide_id: str
    run: Path
    name: str
    row: SlideScoreRow
    outlines: Path | None
    rules: AnnotationRules
    spec: EvaluationSpec


def read_truth(
    run: RunFolder, name: str, found: HeldOut, spec: EvaluationSpec, execution: ExecutionSpec
) -> tuple[list[HeldOutSlide], list[str]]:
    """Return the slides whose lesions are known, and the ids of the others; both in the order of `found`.

    Known are the lesions of a negative slide (none), and those of a positive slide whose annotation gives at
    least one. The slides are read by the workers of `execution`. Raises MachineError for a slide that could
    not be read because of the machine: metrics without it would stay.
    """
    files = found.truth_files
    jobs = [
        HeldOutJob(row.slide_id, run.path, name, row, files[row.slide_id], found.rules, spec)
        for row in found.rows
        if files[row.slide_id] is not None or not row.positive
    ]
    slides, failed = read_slides(_read_slide, jobs, stage=f"evaluate {name}", spec=execution)
    warn_of_left_out(f"evaluate {name}", failed, "patch metrics and FROC")
    return list(slides.values()), [row.slide_id for row in found.rows if row.slide_id not in slides]


def warn_of_left_out(stage: str, failed: Mapping[str, Outcome], metrics: str) -> None:
    """Warn, by name, of slides that could not be read and are left out of `metrics`.

    Raises MachineError if the machine was at fault: metrics without such a slide would not be measured again,
    since nothing that they are made from has changed.
    """
    for slide_id, outcome in failed.items():
        if outcome.cause != "slide":
            raise MachineError(
                f"{stage}: slide {slide_id} could not be read because of this machine, and {metrics} without "
                f"it would be wrong: {outcome.reason}; mend this and run the same command again"
            )
        logger().warning("%s: slide %s is left out of %s: %s", stage, slide_id, metrics, outcome.reason)


def _read_slide(job: HeldOutJob) -> HeldOutSlide:
    run, slide_id = RunFolder(job.run), job.slide_id
    store = run.store(slide_id)
    info, table = store.read_info(), store.read_tiles()
    scores = read_tile_scores(run.tile_scores(job.name, slide_id))
    check_scores(scores, table)
    lesions: list[Lesion] = []
    if job.outlines is not None:
        with activity(slide_id, "reading its outlines"):
            lesions = known_lesions(job.outlines, slide_id, info, job.rules)
    return held_out_slide(job.row, info, table, scores, lesions, job.spec)
