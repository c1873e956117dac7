"""score: scores of slides and tiles from features. Each slide is scored by a model that was not trained on
it."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from wsi_mil.bags import Fold, Split
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.scores import SlideScoreRow, SlideScoresHeader
from wsi_mil.errors import StoreError
from wsi_mil.execution import map_slides
from wsi_mil.execution.activity import activity
from wsi_mil.features.store import DAMAGED
from wsi_mil.io.files import digest_json
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext
from wsi_mil.run.current import scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.recording import record_outcomes
from wsi_mil.run.states import digest_of_states, states_of, without_unchanged
from wsi_mil.scoring import TrainedModel, load_model, score_features, write_slide_scores, write_tile_scores
from wsi_mil.scoring.files import read_slide_scores, read_tile_scores, tile_scores_header
from wsi_mil.training.learning import NOT_LEARNED


@dataclass(frozen=True)
class ScoreJob:
    """What `score_one` needs, in values that pickle. `model`: the folder of a trained model; `name`: its
    name."""

    slide_id: str
    run: Path
    name: str
    model: Path
    model_digest: str

    @property
    def stage(self) -> str:
        return f"score {self.name}"


def scores_state(run: RunFolder, name: str, model: TrainedModel, slide_id: str) -> str:
    """Return the digest of a model and of the state of a slide's tiles, features and scores
    (`run.states`)."""
    store = f"slides/{slide_id}.zarr"
    features = f"{store}/features/{model.encoder.key}"
    read = states_of(run, [f"{store}/tiles/zarr.json", f"{features}/zarr.json", f"{features}/{DAMAGED}"])
    made = states_of(run, [f"scores/{name}/tiles/{slide_id}.parquet"])
    return digest_of_states([model.digest, model.tile_classes, model.second_kind], read, made)


@lru_cache(maxsize=2)
def _loaded(folder: Path, digest: str) -> TrainedModel:
    """The model of a folder, loaded once per process and version of its weights."""
    return load_model(folder)


def score_one(job: ScoreJob) -> Outcome:
    """Score one slide unless its scores are of this model and these features already."""
    started = time.perf_counter()
    # the last digits of a score depend on the number of threads: one, for any number of workers and cores
    torch.set_num_threads(1)
    run, model = RunFolder(job.run), _loaded(job.model, job.model_digest)
    store = run.store(job.slide_id)
    stored = store.stored_features(model.encoder.key)
    if stored is None:
        return Outcome(job.slide_id, job.stage, "failed", "its features are gone: run `wsi-mil extract`")
    digest = digest_json([model.digest, stored.digest, stored.tiles_digest])
    if scores_are_current(run, job.name, model, job.slide_id):
        state = scores_state(run, job.name, model, job.slide_id)
        return Outcome(job.slide_id, job.stage, "done", "", {}, digest, reused=True, state=state)
    path = run.tile_scores(job.name, job.slide_id)
    if path.exists() and tile_scores_header(path) is None:
        logger().warning("score: %s is damaged or old: slide %s is scored again", path, job.slide_id)
    with activity(job.slide_id, "reading features"):
        table: FeatureTable = store.read_features(model.encoder.key)
        model.check_tiles(store.read_tiles().spec, job.slide_id)
    with activity(job.slide_id, "computing scores"):
        scores = score_features(model, table)
    with activity(job.slide_id, "writing scores"):
        write_tile_scores(path, scores)
    seconds, state = time.perf_counter() - started, scores_state(run, job.name, model, job.slide_id)
    return Outcome(job.slide_id, job.stage, "done", "", {}, digest, seconds, state=state)


def run(context: RunContext) -> int:
    """Score all slides with every model: each slide by the fold whose test part it is in (one fold: all
    slides).

    Of several repeats and seeds the models of the first one score; the others serve the comparison of
    methods. Slides without label are scored by the first fold. Returns how many slides needed work.
    """
    split = context.require_split()
    return sum(_score_model(context, name, split) for name in context.config.models)


def _score_model(context: RunContext, name: str, split: Split) -> int:
    worked, rows, folds, not_learned = 0, list[SlideScoreRow](), split.first_round, list[int]()
    before, stage = _rows_before(context.run, name), f"score {name}"
    for number, fold in enumerate(folds):
        folder = context.run.model(name, number)
        model = load_model(folder)
        if model.threshold is not None:
            model.threshold.refuse_if_chosen_on(fold.digest("test"))
        if model.training.learned is False:
            not_learned.append(number)
            logger().warning("score %s fold %d: the model %s", name, number, NOT_LEARNED)
        members = _members(fold, folds, number, context.slide_ids)
        scored, count = score_slides(context, name, folder, model, sorted(members))
        worked += count
        for slide_id in scored:
            known = before.get(slide_id)
            if known is not None and not _is_current(known, model, context.run.ledger.get(slide_id, stage)):
                known = None
            rows.append(score_row(context, name, model, number, slide_id, members[slide_id], known))
    task = context.config.task.kind
    header = SlideScoresHeader(
        name, split.digest(), len(folds), task, model.task.labels, model.second_kind, tuple(not_learned)
    )
    write_slide_scores(context.run.slide_scores(name), rows, header)
    return worked


def _rows_before(run: RunFolder, name: str) -> dict[str, SlideScoreRow]:
    """Return the rows of slides.parquet by slide; none without a readable file."""
    try:
        return {row.slide_id: row for row in read_slide_scores(run.slide_scores(name))[0]}
    except StoreError:
        return {}


def _is_current(row: SlideScoreRow, model: TrainedModel, outcome: Outcome | None) -> bool:
    """Return whether a row is of this model and of the features that the slide was scored from last."""
    made_from = digest_json([model.digest, row.features_digest, row.tiles_digest])
    whole = bool(row.class_probabilities) or not _lists_classes(model)
    return whole and row.model_digest == model.digest and outcome is not None and outcome.digest == made_from


def score_slides(
    context: RunContext, name: str, folder: Path, model: TrainedModel, slide_ids: Sequence[str]
) -> tuple[list[str], int]:
    """Score those of `slide_ids` that have features with the model in `folder`.

    Returns the slides whose scores are up to date now, and how many slides needed work. A slide without
    features is left out: the stage that could not make them has an outcome for it.
    """
    run, execution = context.run, context.config.execution
    jobs = [ScoreJob(slide_id, run.path, name, folder, model.digest) for slide_id in slide_ids]
    compared: set[str] = set()

    def score_waiting(waiting: Sequence[ScoreJob]) -> Iterator[Outcome]:
        compared.update(job.slide_id for job in waiting)
        having = [
            job for job in waiting if run.store(job.slide_id).stored_features(model.encoder.key) is not None
        ]
        return map_slides(score_one, having, stage=f"score {name}", spec=execution)

    def state_of(job: ScoreJob) -> str:
        return scores_state(run, name, model, job.slide_id)

    outcomes = without_unchanged(run, f"score {name}", jobs, state_of, score_waiting)
    worked = record_outcomes(run, f"score {name}", outcomes, len(jobs))
    current = [s for s in slide_ids if s not in compared or scores_are_current(run, name, model, s)]
    return current, worked


def _members(fold: Fold, folds: Sequence[Fold], number: int, slide_ids: Sequence[str]) -> dict[str, str]:
    """Slide id -> part, for the slides that this fold's model scores."""
    parts = {slide_id: part for part in ("train", "val", "test") for slide_id in getattr(fold, part)}
    in_split = {s for f in folds for part in ("train", "val", "test") for s in getattr(f, part)}
    members = parts if len(folds) == 1 else dict.fromkeys(fold.test, "test")
    if number == 0:
        members |= {slide_id: "unlabelled" for slide_id in slide_ids if slide_id not in in_split}
    return members


def score_row(
    context: RunContext,
    name: str,
    model: TrainedModel,
    number: int,
    slide_id: str,
    part: str,
    known: SlideScoreRow | None = None,
) -> SlideScoreRow:
    """Return one row of slides.parquet for a slide that has tile scores of fold `number`.

    known: the row of an earlier run with the same scores; without it the file of tile scores is read.
    """
    scores = known or read_tile_scores(context.run.tile_scores(name, slide_id))
    label = context.labels.rows.get(slide_id) if context.labels else None
    threshold = model.threshold.value if model.threshold is not None else math.nan
    return SlideScoreRow(
        slide_id=slide_id,
        patient=label.patient if label else slide_id,
        fold=number,
        part=part,
        label=label.label if label else None,
        probability=scores.probability,
        threshold=threshold,
        predicted=scores.probability >= threshold,
        tiles=scores.tiles if isinstance(scores, SlideScoreRow) else len(scores.coords),
        tiles_digest=scores.tiles_digest,
        features_digest=scores.features_digest,
        model_digest=scores.model_digest,
        prediction=scores.prediction,
        target=_target(label) if label is not None and not model.detects else (),
        class_probabilities=scores.class_probabilities if _lists_classes(model) else (),
        is_positive=_is_positive(label, model),
    )


def _lists_classes(model: TrainedModel) -> bool:
    """Return whether rows hold the probability of each class: two of detection follow from `probability`."""
    return not model.detects or len(model.class_names) > 2


def _is_positive(label: SlideLabel | None, model: TrainedModel) -> bool | None:
    """Return whether a slide is positive; None without label, or if the task has no positive class."""
    if label is None or label.label is None or not model.detects:
        return None
    return model.task.is_positive(label.label)


def _target(label: SlideLabel) -> tuple[float, ...]:
    """Return what a prediction is compared with as numbers; empty where the slide has no label."""
    if label.target is None:
        return ()
    return tuple(map(float, label.target)) if isinstance(label.target, tuple) else (float(label.target),)
