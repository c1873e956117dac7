"""What a training of the poison experiment reads: bags, and the truth of test slides.

Read once per process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_mil.bags import BagSource, Fold, StoredBag, read_bag
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.evaluation import AnnotationRules, lesions_or_unknown, tile_overlap
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.tile_truth import tile_centres
from wsi_mil.experiments.poison_store import poisoned_store
from wsi_mil.features import SlideStore
from wsi_mil.robustness.poison.conditions import Arm
from wsi_mil.robustness.poison.plan import plan_poison
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.folder import RunFolder
from wsi_mil.tasks import Task
from wsi_mil.training import TrainSpec

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
    task: Task
    encoder: EncoderSpec
    evaluation: EvaluationSpec
    outlines: Mapping[str, Path]
    rules: AnnotationRules
    device: str
    needs_gpu: bool
    in_memory: bool
    inputs: str
    result: Path

    def label(self, slide_id: str) -> int:
        """Return the class index of a slide."""
        return self.labels[slide_id].label or 0

    def is_positive(self, slide_id: str) -> bool:
        """Return whether the class of a slide is a positive one."""
        return self.task.is_positive(self.labels[slide_id].label)


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


def _store(job: PoisonTraining, slide_id: str, poisoned: bool) -> SlideStore:
    run = RunFolder(job.run)
    return poisoned_store(run, job.poison, slide_id) if poisoned else run.store(slide_id)


def bag_of(job: PoisonTraining, slide_id: str, poisoned: bool) -> BagSource:
    """Return the bag of a slide, clean or poisoned: in memory or on disk, as the job says."""
    store = _store(job, slide_id, poisoned)
    return _cached_bag(store, job.encoder.key, job.label(slide_id), job.in_memory)


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_bag(store: SlideStore, key: str, label: int, in_memory: bool) -> BagSource:
    """Return a slide's bag, opened and checked once per process."""
    stored = StoredBag(store.slide_id, store.map_features(key), label)
    return read_bag(stored) if in_memory else stored


def readable_tiles(job: PoisonTraining, slide_id: str, poisoned: bool) -> NDArray[np.bool_]:
    """Return which tiles (N,) of a slide have features."""
    return _cached_readable(_store(job, slide_id, poisoned), job.encoder.key)


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_readable(store: SlideStore, key: str) -> NDArray[np.bool_]:
    return store.read_readable(key)


def slide_truth(job: PoisonTraining, slide_id: str) -> SlideTruth:
    """Return what the scores of a slide are compared with."""
    positive, outline = job.is_positive(slide_id), job.outlines.get(slide_id)
    return _cached_truth(
        job.run, job.poison, job.encoder, slide_id, outline, job.rules, positive, job.evaluation
    )


@lru_cache(maxsize=CACHED_SLIDES)
def _cached_truth(
    run: Path,
    poison: PoisonSpec,
    encoder: EncoderSpec,
    slide_id: str,
    outline: Path | None,
    rules: AnnotationRules,
    positive: bool,
    spec: EvaluationSpec,
) -> SlideTruth:
    """Return the truth of one slide, computed once per process.

    The poison is planned again, which gives the same places, because the plan depends on the settings alone.
    """
    store = RunFolder(run).store(slide_id)
    table, info = store.read_tiles(), store.read_info()
    found = lesions_or_unknown(outline, slide_id, info, rules, "the metrics of poison") if positive else []
    known = None if found is None else tuple(found)
    lesions = known or ()
    truth = (
        tile_centres(table, lesions)
        if spec.patch_truth == "centre"
        else tile_overlap(table, lesions) >= spec.patch_overlap
    )
    tumour = shapely.union_all([lesion.geometry for lesion in lesions]) if lesions else None
    plan = plan_poison(info, table, poison, tumour)
    return SlideTruth(table, info, known, truth, plan.share_of_tiles(table) > 0)
