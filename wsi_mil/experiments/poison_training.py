"""One training of the poison experiment: a method on one fold, in one arm, measured on clean and poisoned
slides.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from wsi_mil.aggregators import Aggregator, build_aggregator, outputs_for
from wsi_mil.bags import BagSource, Fold, StoredBag, read_bag
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.qupath import BoundsMode
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.evaluation import froc_curve, read_annotations, tile_overlap
from wsi_mil.evaluation.detections import detections_of
from wsi_mil.evaluation.froc import Matches
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.tile_truth import tile_centres
from wsi_mil.evaluation.truth import match_slide
from wsi_mil.experiments.poison_features import poisoned_store
from wsi_mil.features import SlideStore
from wsi_mil.io.json import write_json
from wsi_mil.robustness.poison.conditions import CONDITIONS, Arm, is_poisoned
from wsi_mil.robustness.poison.plan import plan_poison
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.robustness.poison.study import Measured, PoisonTrainingResult
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import score_bag
from wsi_mil.scoring.scores import slide_probability
from wsi_mil.training import Standardizer, TrainSpec, fit

CACHED_SLIDES = 4096


@dataclass(frozen=True)
class PoisonTraining:
    """A method, a fold and an arm: everything that a worker process needs.

    number: of the fold. outlines: slide id -> file with the outlines of its lesions. in_memory: whether the
    bags of all slides are small enough for each process to hold them. inputs: the digest of everything that
    the result depends on. result: the file to write.
    """

    run: Path
    poison: PoisonSpec
    name: str
    spec: TrainSpec
    arm: Arm
    fold: Fold
    number: int
    labels: Mapping[str, SlideLabel]
    classes: int
    encoder: EncoderSpec
    evaluation: EvaluationSpec
    outlines: Mapping[str, Path]
    bounds: BoundsMode
    device: str
    in_memory: bool
    inputs: str
    result: Path

    def label(self, slide_id: str) -> int:
        """Return the class of a slide, 0 for normal."""
        return self.labels[slide_id].label or 0


@dataclass(frozen=True)
class SlideTruth:
    """What the scores of a test slide are compared with.

    lesions: None on a tumour slide without outline. truth (N,): which tiles count as tumour. poisoned (N,):
    which tiles the poison touches.
    """

    table: TileTable
    info: SlideInfo
    lesions: tuple[Lesion, ...] | None
    truth: NDArray[np.bool_]
    poisoned: NDArray[np.bool_]


def poison_train_one(job: PoisonTraining) -> PoisonTrainingResult:
    """Train, measure in every condition of the arm, write the result to `job.result` and return it."""
    bags = {s: _bag(job, s, is_poisoned(job.arm, job.label(s))) for s in (*job.fold.train, *job.fold.val)}
    train = [bags[s] for s in job.fold.train]
    standardizer = Standardizer.fit(train) if job.spec.standardize else Standardizer.identity(train[0].dim)
    name = job.spec.aggregator or job.name
    spec = job.spec.model_copy(update={"seed": job.spec.seed + 1000 * job.number})
    outputs = outputs_for(name, job.classes, spec.head)
    model = build_aggregator(name, train[0].dim, outputs, spec.seed, spec.params)
    ready = {s: standardizer(bag) for s, bag in bags.items()}  # type: ignore[call-overload]
    fitted = fit(
        model,
        [ready[s] for s in job.fold.train],
        [ready[s] for s in job.fold.val],
        spec,
        device=job.device,
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
            for condition, (train_arm, test_arm) in CONDITIONS.items()
            if train_arm == job.arm
        },
    )
    write_json(job.result, found.as_json())
    return found


def measure(job: PoisonTraining, model: Aggregator, standardizer: Standardizer, arm: Arm) -> Measured:
    """Return the metrics of a trained model on the test part, with the poison on the slides of `arm`."""
    probabilities, truths, values, matches, shares, tops, kind = [], [], [], [], [], [], ""
    for slide_id in job.fold.test:
        poisoned = is_poisoned(arm, job.label(slide_id))
        bag = standardizer(_bag(job, slide_id, poisoned))  # type: ignore[call-overload]
        slide = _slide_truth(job, slide_id)
        probability, instances, kind = score_bag(model, bag)
        probabilities.append(float(1 - probability[0]))
        scores = _slide_scores(slide, slide_id, instances, kind, _readable(job, slide_id, poisoned))
        if poisoned and job.label(slide_id):
            weight = np.nan_to_num(scores.tile_scores01().astype(np.float64))
            shares.append(weight[slide.poisoned].sum() / max(weight.sum(), 1e-12))
            tops.append(bool(slide.poisoned[np.nanargmax(scores.tile_scores)]))
        if slide.lesions is None:
            continue
        readable = np.isfinite(scores.tile_scores)
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
    return auc(np.array([job.label(s) > 0 for s in slides]), np.array(probabilities))


def _slide_scores(
    slide: SlideTruth, slide_id: str, instances: torch.Tensor, kind: Any, readable: NDArray[np.bool_]
) -> SlideScores:
    tiles = np.full(len(slide.table), np.nan, np.float32)
    tiles[readable] = instances.float().numpy()
    return SlideScores(slide_id, 0.0, (), tiles, kind, slide.table.coords, "", "", "")


def _store(job: PoisonTraining, slide_id: str, poisoned: bool) -> SlideStore:
    run = RunFolder(job.run)
    return poisoned_store(run, job.poison, slide_id) if poisoned else run.store(slide_id)


def _bag(job: PoisonTraining, slide_id: str, poisoned: bool) -> BagSource:
    path = _store(job, slide_id, poisoned).path
    return _cached_bag(path, slide_id, job.encoder.key, job.label(slide_id), job.in_memory)


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_bag(path: Path, slide_id: str, key: str, label: int, in_memory: bool) -> BagSource:
    """A slide's bag, opened and checked once per process, however many trainings use it."""
    stored = StoredBag(slide_id, SlideStore(path, slide_id).map_features(key), label)
    return read_bag(stored) if in_memory else stored


def _readable(job: PoisonTraining, slide_id: str, poisoned: bool) -> NDArray[np.bool_]:
    return _cached_readable(_store(job, slide_id, poisoned).path, slide_id, job.encoder.key)


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_readable(path: Path, slide_id: str, key: str) -> NDArray[np.bool_]:
    return SlideStore(path, slide_id).read_readable(key)


def _slide_truth(job: PoisonTraining, slide_id: str) -> SlideTruth:
    label, outline = job.label(slide_id), job.outlines.get(slide_id)
    return _cached_truth(
        job.run, job.poison, job.encoder, slide_id, outline, job.bounds, label, job.evaluation
    )


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_truth(
    run: Path,
    poison: PoisonSpec,
    encoder: EncoderSpec,
    slide_id: str,
    outline: Path | None,
    bounds: BoundsMode,
    label: int,
    spec: EvaluationSpec,
) -> SlideTruth:
    """The truth of one slide, once per process. The poison is planned again: equal settings give an equal
    plan.
    """
    store = RunFolder(run).store(slide_id)
    table, info = store.read_tiles(), store.read_info()
    lesions = tuple(read_annotations(outline, slide_id, info, bounds)) if outline and label else ()
    truth = (
        tile_centres(table, lesions)
        if spec.patch_truth == "centre"
        else tile_overlap(table, lesions) >= spec.patch_overlap
    )
    tumour = shapely.union_all([lesion.geometry for lesion in lesions]) if lesions else None
    plan = plan_poison(info, table, poison, tumour)
    known = None if label and outline is None else lesions
    return SlideTruth(table, info, known, truth, plan.share_of_tiles(table) > 0)
