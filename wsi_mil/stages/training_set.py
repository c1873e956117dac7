"""What all trainings of a run share: labelled slides that have features, their split, and their bags."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.bags import Fold, Split, SplitSpec, StoredBag, make_split
from wsi_mil.bags.labels import LabelTable
from wsi_mil.contracts.labels import SlideLabel, Target
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError, DataError, ModelError, StoreError
from wsi_mil.evaluation import AnnotationFolder
from wsi_mil.features import MappedFeatures
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.logs import logger
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages.site_warning import warn_of_guessable_labels
from wsi_mil.tasks import Task
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import TrainSpec


@dataclass(frozen=True)
class TrainingSet:
    """The labelled slides that have features, what their labels mean, and how the features were made.

    features_digests: by slide id. annotations: where lesion outlines lie, None if the run has none.
    patch_overlap: the fraction of a tile that must lie on a lesion for the tile to count as tumour.
    """

    labels: dict[str, SlideLabel]
    task: Task
    features_digests: dict[str, str]
    tissue: TissueSpec
    tiles: TileSpec
    encoder: EncoderSpec
    annotations: AnnotationFolder | None = None
    patch_overlap: float = 0.5

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of their indices; empty for regression and survival."""
        return self.task.class_names

    def target(self, slide_id: str) -> Target:
        """Return what a model of the slide learns. Raises DataError if the slide has no label."""
        target = self.labels[slide_id].target
        if target is None:
            raise DataError(f"slide {slide_id!r} has no label: it cannot be trained on")
        return target

    def outline(self, slide_id: str) -> Path | None:
        """Return the annotation file of a slide; None if there is none."""
        return self.annotations.find(slide_id) if self.annotations else None


def training_set(
    run: RunFolder,
    labels: LabelTable,
    tissue: TissueSpec,
    tiles: TileSpec,
    encoder: EncoderSpec,
    annotations: AnnotationFolder | None = None,
    patch_overlap: float = 0.5,
) -> TrainingSet:
    """Return the labelled slides that have features. A slide without features is left out; its outcome says
    why.

    Raises DataError if no slide is left.
    """
    digests = {}
    for slide_id, row in sorted(labels.rows.items()):
        stored = run.store(slide_id).stored_features(encoder.key) if row.target is not None else None
        if stored is not None and stored.readable_rows > 0:
            digests[slide_id] = stored.digest
    if not digests:
        raise DataError(
            f"no labelled slide has {encoder.key} features in {run.path}: run `wsi-mil extract` first"
        )
    usable = {slide_id: labels.rows[slide_id] for slide_id in digests}
    return TrainingSet(
        usable,
        labels.task,
        digests,
        tissue,
        tiles,
        encoder,
        annotations,
        patch_overlap,
    )


def load_or_make_split(run: RunFolder, data: TrainingSet, spec: SplitSpec) -> Split:
    """Return the run's saved split if it fits the slides and `spec`; otherwise make and save a new one."""
    warn_of_guessable_labels(list(data.labels.values()), data.task)
    made = make_split(list(data.labels.values()), spec, data.task)
    if run.split.exists():
        try:
            saved = Split.load(run.split)
            if saved.spec == spec and saved.digest() == made.digest():
                return saved
            logger().info("the slides or the split settings have changed: a new split is drawn")
        except DamagedFileError as error:
            logger().warning("the split is drawn again: %s", error)
    made.save(run.split)
    return made


def annotated_slides(name: str, spec: TrainSpec, data: TrainingSet, fold: Fold) -> tuple[str, ...]:
    """Return the training slides whose outlines the model may see; none if `annotated_share` is 0.

    They are the fraction `annotated_share` of the training part, drawn with the training's seed among the
    positive slides that have outlines. Raises ConfigError for a model that uses no outlines or a run without
    them, and DataError if too few slides have outlines.
    """
    if spec.annotated_share == 0:
        return ()
    if not (spec.aggregator or name).startswith("guided("):
        raise ConfigError(
            f"models.{name}.annotated_share: only guided(...) aggregators use outlines; leave it at 0"
        )
    if data.annotations is None:
        raise ConfigError(f"models.{name}.annotated_share needs outlines: give slides.annotations=FOLDER")
    having = [
        s for s in fold.train if data.task.is_positive(data.labels[s].label) and data.outline(s) is not None
    ]
    wanted = max(round(spec.annotated_share * len(fold.train)), 1)
    if len(having) < wanted:
        raise DataError(
            f"models.{name}.annotated_share={spec.annotated_share:g} asks for {wanted} annotated training "
            f"slides, only {len(having)} positive ones have outlines in {data.annotations.path}"
        )
    return tuple(sorted(np.random.default_rng(spec.seed).choice(having, wanted, replace=False).tolist()))


def read_bags(
    run: RunFolder,
    data: TrainingSet,
    fold: Fold,
    marks: Mapping[str, NDArray[np.bool_]],
    with_views: bool,
) -> dict[str, StoredBag]:
    """Return the bags of all slides of a fold, by slide id.

    marks: which tiles (N,) of an annotated slide are tumour, by slide id. with_views: training slides get the
    augmented features of the encoder's views as well.
    """
    members = [*fold.train, *fold.val, *fold.test]
    bags = {slide_id: _bag(run, data, slide_id, marks.get(slide_id)) for slide_id in members}
    if with_views:
        bags |= {s: replace(bags[s], views=_views(run, data, s)) for s in fold.train}
    return bags


@cache
def _mapped(run: Path, slide_id: str, key: str, digest: str) -> MappedFeatures:
    """Return a slide's features; each process opens and checks them once, however many trainings use them."""
    return RunFolder(run).store(slide_id).map_features(key)


def _bag(run: RunFolder, data: TrainingSet, slide_id: str, marks: NDArray[np.bool_] | None) -> StoredBag:
    row, store = data.labels[slide_id], run.store(slide_id)
    features = _mapped(run.path, slide_id, data.encoder.key, data.features_digests[slide_id])
    bag = StoredBag(slide_id, features, data.target(slide_id), row.patient)
    if marks is None:
        return bag
    readable = store.read_readable(data.encoder.key)
    return replace(bag, instance_labels=torch.from_numpy(marks[readable]).long())


def view_digests(run: RunFolder, data: TrainingSet, slide_id: str) -> list[str]:
    """Return the digests of the features of every view. Raises StoreError if a view is missing."""
    found = [run.store(slide_id).stored_features(spec.key) for spec in data.encoder.augmented]
    if None in found:
        raise StoreError(
            f"slide {slide_id!r} lacks view {found.index(None) + 1} of {len(found)}: run `wsi-mil extract`"
        )
    return [stored.digest for stored in found if stored]


def _views(run: RunFolder, data: TrainingSet, slide_id: str) -> tuple[MappedFeatures, ...]:
    digests = view_digests(run, data, slide_id)
    keys = [spec.key for spec in data.encoder.augmented]
    return tuple(_mapped(run.path, slide_id, key, digest) for key, digest in zip(keys, digests, strict=True))


def encoder_digest(run: RunFolder, data: TrainingSet) -> str:
    """Return the digest of the encoder that made all slides' features. Raises ModelError if there are
    several."""
    found = {
        stored.encoder_digest if (stored := run.store(slide_id).stored_features(data.encoder.key)) else "None"
        for slide_id in data.labels
    }
    if len(found) != 1:
        raise ModelError(
            f"slides have features of {len(found)} different encoders under {data.encoder.key!r}: extract "
            "again"
        )
    return found.pop()
