"""One training of the poison experiment: a method on one fold, in one arm, measured clean and poisoned."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.aggregators import Aggregator, build_aggregator, outputs_for
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.encoders.base import pick_device
from wsi_mil.evaluation import froc_curve
from wsi_mil.evaluation.detections import detections_of
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import match_slide
from wsi_mil.experiments.poison_inputs import PoisonTraining, SlideTruth, bag_of, readable_tiles, slide_truth
from wsi_mil.io.json import write_json
from wsi_mil.robustness.poison.conditions import Arm, conditions_of, is_poisoned
from wsi_mil.robustness.poison.study import Measured, PoisonTrainingResult
from wsi_mil.scoring import score_bag
from wsi_mil.scoring.scores import slide_probability
from wsi_mil.training import Standardizer, fit


def poison_train_one(job: PoisonTraining) -> PoisonTrainingResult:
    """Train, measure in every condition of the arm, write the result to `job.result` and return it."""
    members = (*job.fold.train, *job.fold.val)
    bags = {s: bag_of(job, s, is_poisoned(job.arm, job.is_positive(s))) for s in members}
    train = [bags[s] for s in job.fold.train]
    standardizer = Standardizer.fit(train) if job.spec.standardize else Standardizer.identity(train[0].dim)
    name = job.spec.aggregator or job.name
    spec = job.spec.model_copy(update={"seed": job.spec.seed + 1000 * job.number})
    outputs = outputs_for(name, job.task, spec.head)
    model = build_aggregator(name, train[0].dim, outputs, spec.seed, spec.params, job.task)
    ready = {s: standardizer(bag) for s, bag in bags.items()}  # type: ignore[call-overload]
    fitted = fit(
        model,
        [ready[s] for s in job.fold.train],
        [ready[s] for s in job.fold.val],
        spec,
        task=job.task,
        device=pick_device(job.device),
        label=f"poison {job.name} {job.arm} {job.number}",
    )
    model.cpu().eval()
    on_train = [slide_probability(model, ready[s]) for s in job.fold.train]
    found = PoisonTrainingResult(
        inputs_digest=job.inputs,
        model=job.name,
        aggregator=name,
        arm=job.arm,
        fold=job.number,
        kept_epoch=fitted.epoch,
        train_auc=_auc(job, job.fold.train, on_train),
        val_auc=fitted.metrics.get("val_auc", math.nan),
        last_val_auc=fitted.history[-1].get("val_auc", math.nan),
        conditions={
            condition: measure(job, model, standardizer, test_arm)
            for condition, test_arm in conditions_of(job.arm).items()
        },
    )
    write_json(job.result, found.as_json())
    return found


def measure(job: PoisonTraining, model: Aggregator, standardizer: Standardizer, arm: Arm) -> Measured:
    """Return the metrics of a trained model on the test part, with the poison on the slides of `arm`."""
    probabilities, truths, values, matches, shares, tops, kind = [], [], [], [], [], [], ""
    for slide_id in job.fold.test:
        poisoned = is_poisoned(arm, job.is_positive(slide_id))
        bag = standardizer(bag_of(job, slide_id, poisoned))  # type: ignore[call-overload]
        slide = slide_truth(job, slide_id)
        probability, instances, kind = score_bag(model, bag)
        probabilities.append(float(1 - probability[0]))
        readable = readable_tiles(job, slide_id, poisoned)
        scores = _slide_scores(slide, slide_id, probabilities[-1], instances, kind, readable)
        if poisoned and job.is_positive(slide_id) == (arm != "normal"):
            weight = np.nan_to_num(scores.kind.scale(scores.tile_scores.astype(np.float64)))
            shares.append(weight[slide.poisoned].sum() / max(weight.sum(), 1e-12))
            tops.append(bool(slide.poisoned[np.nanargmax(scores.tile_scores)]))
        if slide.lesions is None:
            continue
        truths.append(slide.truth[readable])
        values.append(scores.comparable_scores()[readable])
        detections = detections_of(scores, slide.table, job.evaluation)
        matches.append(match_slide(detections, slide.info, slide.lesions, job.evaluation)[0])
    return Measured(
        slide_auc=_auc(job, job.fold.test, probabilities),
        patch_auc=auc(np.concatenate(truths), np.concatenate(values)) if truths else math.nan,
        froc=_froc(matches, job.evaluation),
        poison_share=float(np.mean(shares)) if shares else math.nan,
        poison_top=float(np.mean(tops)) if tops else math.nan,
        score_kind=kind,
    )


def _froc(matches: list[Matches], spec: EvaluationSpec) -> float:
    return float(froc_curve(matches, spec.froc_mode).score) if matches else float("nan")


def _auc(job: PoisonTraining, slides: tuple[str, ...], probabilities: list[float]) -> float:
    return auc(np.array([job.is_positive(s) for s in slides]), np.array(probabilities))


def _slide_scores(
    slide: SlideTruth,
    slide_id: str,
    probability: float,
    instances: torch.Tensor,
    kind: str,
    readable: NDArray[np.bool_],
) -> SlideScores:
    """Return tile scores (N,) from the scores of the readable tiles."""
    tiles = np.full(len(slide.table), np.nan, np.float32)
    tiles[readable] = instances.float().numpy()
    return SlideScores(
        slide_id,
        probability=probability,
        class_probabilities=(),
        tile_scores=tiles,
        score_kind=kind,
        coords=slide.table.coords,
        tiles_digest="",
        features_digest="",
        model_digest="",
    )
