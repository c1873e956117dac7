"""score: from models and features to scores, each slide by a fold that did not train on it."""

import time
from collections.abc import Sequence
from functools import partial

from wsi_mil.bags import Fold, Split
from wsi_mil.bags.labels import LabelTable
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.scores import SlideScoreRow, SlideScoresHeader
from wsi_mil.io.files import digest_json
from wsi_mil.run.accounting import each
from wsi_mil.run.current import scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import TrainedModel, load_model, score_features, write_slide_scores, write_tile_scores
from wsi_mil.scoring.files import read_tile_scores


def score_one(run: RunFolder, name: str, model: TrainedModel, slide_id: str) -> Outcome:
    """Score one slide unless its scores are of this model and these features already."""
    started = time.perf_counter()
    store = run.store(slide_id)
    stored = store.stored_features(model.encoder.key)
    if stored is None:
        return Outcome(slide_id, f"score {name}", "failed", "its features are gone: run `wsi-mil extract`")
    path = run.tile_scores(name, slide_id)
    digest = digest_json([model.digest, stored.digest, stored.tiles_digest])
    if scores_are_current(run, name, model, slide_id):
        return Outcome(slide_id, f"score {name}", "done", "", {}, digest, reused=True)
    table: FeatureTable = store.read_features(model.encoder.key)
    model.check_tiles(store.read_tiles().spec, slide_id)
    write_tile_scores(path, score_features(model, table))
    return Outcome(slide_id, f"score {name}", "done", "", {}, digest, time.perf_counter() - started)


def run_score(
    run: RunFolder, names: Sequence[str], labels: LabelTable | None, split: Split, slide_ids: Sequence[str]
) -> int:
    """Score all slides with every model: each slide by the fold whose test part it is in (one fold: all slides).

    Of several repeats and seeds the first one's models score; the others are there for the comparison of methods.
    Returns how many slides needed work. Slides without label are scored by the first fold.
    """
    worked = 0
    folds = split.first_round
    for name in names:
        rows: list[SlideScoreRow] = []
        for number, fold in enumerate(folds):
            model = load_model(run.model(name, number))
            model.threshold.refuse_if_chosen_on(fold.digest("test"))
            # a slide without features is accounted for by the stage that could not make them
            members = {
                slide_id: part
                for slide_id, part in _members(fold, folds, number, slide_ids).items()
                if run.store(slide_id).stored_features(model.encoder.key) is not None
            }
            worked += each(f"score {name}", sorted(members), partial(score_one, run, name, model), run)
            for slide_id, part in sorted(members.items()):
                if not scores_are_current(run, name, model, slide_id):
                    continue
                rows.append(score_row(run, name, model, number, slide_id, part, labels))
        header = SlideScoresHeader(name, split.digest(), len(folds))
        write_slide_scores(run.slide_scores(name), rows, header)
    return worked


def _members(fold: Fold, folds: Sequence[Fold], number: int, slide_ids: Sequence[str]) -> dict[str, str]:
    """Slide id -> part, for the slides that this fold's model scores."""
    parts = {slide_id: part for part in ("train", "val", "test") for slide_id in getattr(fold, part)}
    in_split = {s for f in folds for part in ("train", "val", "test") for s in getattr(f, part)}
    members = parts if len(folds) == 1 else dict.fromkeys(fold.test, "test")
    if number == 0:
        members |= {slide_id: "unlabelled" for slide_id in slide_ids if slide_id not in in_split}
    return members


def score_row(
    run: RunFolder,
    name: str,
    model: TrainedModel,
    number: int,
    slide_id: str,
    part: str,
    labels: LabelTable | None,
) -> SlideScoreRow:
    """Return one row of slides.parquet for a slide that has tile scores."""
    scores = read_tile_scores(run.tile_scores(name, slide_id))
    label = labels.rows.get(slide_id) if labels else None
    return SlideScoreRow(
        slide_id=slide_id,
        patient=label.patient if label else slide_id,
        fold=number,
        part=part,
        label=label.label if label else None,
        probability=scores.probability,
        threshold=model.threshold.value,
        predicted=scores.probability >= model.threshold.value,
        tiles=len(scores.coords),
        tiles_digest=scores.tiles_digest,
        features_digest=scores.features_digest,
        model_digest=scores.model_digest,
    )
