"""One training of the poison experiment: a method on one fold, on clean or poisoned slides, measured on clean and poisoned tests."""

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
from wsi_mil.evaluation.truth import comparable_scores, match_slide
from wsi_mil.experiments.poison_features import poisoned_store
from wsi_mil.features import SlideStore
from wsi_mil.io.files import write_json
from wsi_mil.io.json import without_nan
from wsi_mil.robustness.poison.conditions import CONDITIONS, Arm, is_poisoned
from wsi_mil.robustness.poison.plan import plan_poison
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import score_bag
from wsi_mil.scoring.scores import slide_probability
from wsi_mil.training import Standardizer, TrainSpec, fit

CACHED_SLIDES = 4096


@dataclass(frozen=True)
class PoisonTraining:
    """A method, a fold and an arm: everything that a worker process needs. `outlines`: slide id -> file of its lesions.

    `in_memory`: bags are small enough to be held whole by each process.
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


@dataclass(frozen=True)
class MeasuredSlide:
    """What a test slide is measured against: its tiles, its lesions (None: a tumour slide without outline), and the share of each tile that is poisoned."""

    table: TileTable
    info: SlideInfo
    lesions: tuple[Lesion, ...] | None
    truth: NDArray[np.bool_]
    poisoned: NDArray[np.bool_]


def poison_train_one(job: PoisonTraining) -> dict[str, Any]:
    """Train, measure in every condition of the arm, write the result's file and return it."""
    members = (*job.fold.train, *job.fold.val)
    bags = {s: _bag(job, s, is_poisoned(job.arm, job.labels[s].label or 0)) for s in members}
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
    found: dict[str, Any] = {
        "kind": "poison training",
        "format_version": 1,
        "inputs_digest": job.inputs,
        "model": job.name,
        "aggregator": name,
        "arm": job.arm,
        "fold": job.number,
        "kept_epoch": fitted.epoch,
        "train_auc": _auc(job, job.fold.train, on_train),
        "val_auc": fitted.metrics.get("val_auc", float("nan")),
        "last_val_auc": fitted.history[-1].get("val_auc", float("nan")),
        "conditions": {
            condition: measure(job, model, standardizer, test_arm)
            for condition, (train_arm, test_arm) in CONDITIONS.items()
            if train_arm == job.arm
        },
    }
    found = without_nan(found)
    write_json(job.result, found)
    return found


def measure(job: PoisonTraining, model: Aggregator, standardizer: Standardizer, arm: Arm) -> dict[str, Any]:
    """Return slide AUC, patch AUC, FROC and what falls on poison, on the test part with the poison of `arm`.

    poison_share: of a slide's attention, or of its tile probabilities, how much lies on poisoned tiles; mean over poisoned
    tumour slides. poison_top: share of these whose highest tile is poisoned.
    """
    probabilities, truths, values, matches, shares, tops, kind = [], [], [], [], [], [], ""
    for slide_id in job.fold.test:
        label = job.labels[slide_id].label or 0
        poisoned = is_poisoned(arm, label)
        bag = standardizer(_bag(job, slide_id, poisoned))  # type: ignore[call-overload]
        slide = _measured_slide(
            job.run,
            job.poison,
            job.encoder,
            slide_id,
            job.outlines.get(slide_id),
            job.bounds,
            label,
            job.evaluation,
        )
        probability, instances, kind = score_bag(model, bag)
        probabilities.append(float(1 - probability[0]))
        scores = _slide_scores(slide, slide_id, instances, kind, _readable(job, slide_id, poisoned))
        if poisoned and label:
            weight = np.nan_to_num(scores.tile_probabilities().astype(np.float64))
            shares.append(weight[slide.poisoned].sum() / max(weight.sum(), 1e-12))
            tops.append(bool(slide.poisoned[np.nanargmax(scores.tile_scores)]))
        if slide.lesions is None:
            continue
        readable = np.isfinite(scores.tile_scores)
        truths.append(slide.truth[readable])
        values.append(comparable_scores(scores)[readable])
        matches.append(
            match_slide(
                detections_of(scores, slide.table, job.evaluation), slide.info, slide.lesions, job.evaluation
            )[0]
        )
    return {
        "slide_auc": _auc(job, job.fold.test, probabilities),
        "patch_auc": auc(np.concatenate(truths), np.concatenate(values)) if truths else float("nan"),
        "froc": _froc(matches, job.evaluation),
        "poison_share": float(np.mean(shares)) if shares else float("nan"),
        "poison_top": float(np.mean(tops)) if tops else float("nan"),
        "score_kind": kind,
    }


def _froc(matches: list[Matches], spec: EvaluationSpec) -> float:
    return float(froc_curve(matches, spec.froc_mode).score) if matches else float("nan")


def _auc(job: PoisonTraining, slides: tuple[str, ...], probabilities: list[float]) -> float:
    return auc(np.array([(job.labels[s].label or 0) > 0 for s in slides]), np.array(probabilities))


def _slide_scores(
    slide: MeasuredSlide, slide_id: str, instances: torch.Tensor, kind: Any, readable: NDArray[np.bool_]
) -> SlideScores:
    tiles = np.full(len(slide.table), np.nan, np.float32)
    tiles[readable] = instances.float().numpy()
    return SlideScores(slide_id, 0.0, (), tiles, kind, slide.table.coords, "", "", "")


def _store(job: PoisonTraining, slide_id: str, poisoned: bool) -> SlideStore:
    run = RunFolder(job.run)
    return poisoned_store(run, job.poison, slide_id) if poisoned else run.store(slide_id)


def _bag(job: PoisonTraining, slide_id: str, poisoned: bool) -> BagSource:
    label = job.labels[slide_id].label or 0
    return _cached_bag(_store(job, slide_id, poisoned).path, slide_id, job.encoder.key, label, job.in_memory)


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_bag(path: Path, slide_id: str, key: str, label: int, in_memory: bool) -> BagSource:
    """A slide's bag, looked up and checked once a process however many trainings use it."""
    stored = StoredBag(slide_id, SlideStore(path, slide_id).map_features(key), label)
    return read_bag(stored) if in_memory else stored


def _readable(job: PoisonTraining, slide_id: str, poisoned: bool) -> NDArray[np.bool_]:
    return _cached_readable(_store(job, slide_id, poisoned).path, slide_id, job.encoder.key)


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_readable(path: Path, slide_id: str, key: str) -> NDArray[np.bool_]:
    return SlideStore(path, slide_id).read_readable(key)


@lru_cache(maxsize=CACHED_SLIDES)
def _measured_slide(
    run: Path,
    poison: PoisonSpec,
    encoder: EncoderSpec,
    slide_id: str,
    outline: Path | None,
    bounds: BoundsMode,
    label: int,
    spec: EvaluationSpec,
) -> MeasuredSlide:
    """Truth and places of one slide, once a process. The places are planned again: the same spec gives the same ones."""
    store = RunFolder(run).store(slide_id)
    table, info = store.read_tiles(), store.read_info()
    lesions = tuple(read_annotations(outline, slide_id, info, bounds)) if outline and label else ()
    truth = (
        tile_centres(table, lesions)
        if spec.patch_truth == "centre"
        else tile_overlap(table, lesions) >= spec.patch_overlap
    )
    plan = plan_poison(info, table, poison, _union(lesions))
    known = None if label and outline is None else lesions
    return MeasuredSlide(table, info, known, truth, plan.share_of_tiles(table) > 0)


def _union(lesions: tuple[Lesion, ...]) -> Any:
    return shapely.union_all([lesion.geometry for lesion in lesions]) if lesions else None
