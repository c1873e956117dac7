"""One training of the study `poison_remedies.py`: a remedy, a method, a fold and an arm."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.poison.remedies import REMEDIES, VIEWS, RedrawnBag, Remedy, balanced, outside_tissue_at_the_top
from pipelines.poison.remedy_features import read_variant, variant_path
from wsi_mil.aggregators import Aggregator, build_aggregator, outputs_for
from wsi_mil.bags import BagSource, read_bag
from wsi_mil.contracts.bags import Bag
from wsi_mil.encoders.base import pick_device
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.experiments.poison_inputs import PoisonTraining, bag_of, readable_tiles
from wsi_mil.io.files import digest_json
from wsi_mil.io.json import read_json, write_json
from wsi_mil.robustness.poison.conditions import Arm, is_poisoned
from wsi_mil.scoring import score_bag
from wsi_mil.scoring.scores import slide_probability
from wsi_mil.training import Standardizer, fit

FORMAT = 1
TEST_OF: dict[Arm, Arm] = {"none": "none", "normal": "tumour", "tumour": "normal"}
"""Arm of the training part -> arm of the test part: clean, the direction of the study, mirrored."""


@dataclass(frozen=True)
class RemedyTraining:
    """A training under a remedy. variants: the folder of `make_variant`. centres: slide id -> its centre."""

    training: PoisonTraining
    remedy: str
    variants: Path
    least_tissue: float
    centres: Mapping[str, str]
    folder: Path

    @property
    def path(self) -> Path:
        """The file of the result."""
        job = self.training
        return self.folder / f"{self.remedy}_{job.name}_{job.arm}_fold{job.number}.json"

    @property
    def inputs(self) -> str:
        """The digest of everything that the result depends on."""
        centres = dict(self.centres) if REMEDIES[self.remedy].balanced else {}
        return digest_json([FORMAT, self.training.inputs, self.remedy, centres, self.least_tissue])

    def is_done(self) -> bool:
        """Return whether the result exists and was made from the same inputs."""
        return self.path.exists() and read_json(self.path).get("inputs") == self.inputs


def train_with_remedy(job: RemedyTraining) -> dict[str, float]:
    """Train, test and write the result; return slide_auc of the test part and train_auc."""
    if not job.is_done():
        _train(job)
    found = read_json(job.path)
    return {key: float(found[key]) for key in ("slide_auc", "train_auc")}


def _train(job: RemedyTraining) -> None:
    own, remedy, fold = job.training, REMEDIES[job.remedy], job.training.fold
    members = (*fold.train, *fold.val)
    bags = {s: _bag(job, remedy, s, is_poisoned(own.arm, own.is_positive(s))) for s in members}
    standardizer = Standardizer.fit([bags[s] for s in fold.train])
    ready = {s: standardizer(bag) for s, bag in bags.items()}
    name = own.spec.aggregator or own.name
    spec = own.spec.model_copy(update={"seed": own.spec.seed + 1000 * own.number, "two_pass": "never"})
    dim = bags[members[0]].dim
    model = build_aggregator(
        name, dim, outputs_for(name, own.task, spec.head), spec.seed, spec.params, own.task
    )
    seen = _training_bags(job, remedy, ready, standardizer)
    device = pick_device(own.device)
    fit(model, seen, [ready[s] for s in fold.val], spec, task=own.task, device=device, label=job.path.stem)
    model.cpu().eval()
    on_train = [slide_probability(model, ready[s]) for s in fold.train]
    on_test = [_test_probability(job, remedy, model, standardizer, s) for s in fold.test]
    write_json(
        job.path,
        {
            "inputs": job.inputs,
            "slide_auc": auc(np.array([own.is_positive(s) for s in fold.test]), np.array(on_test)),
            "train_auc": auc(np.array([own.is_positive(s) for s in fold.train]), np.array(on_train)),
        },
    )


def _training_bags(
    job: RemedyTraining, remedy: Remedy, ready: Mapping[str, Bag], standardizer: Standardizer
) -> list[BagSource]:
    """Return the training bags, standardised, as the remedy shows them."""
    own = job.training
    slides = list(own.fold.train)
    if remedy.balanced:
        slides = balanced({s: (job.centres[s], own.label(s)) for s in slides})
    if not (remedy.views or remedy.dropped):
        return [ready[s] for s in slides]
    found: list[BagSource] = []
    for number, slide_id in enumerate(slides):
        poisoned = is_poisoned(own.arm, own.is_positive(slide_id))
        names = [f"view{view + 1}" for view in range(VIEWS)] if remedy.views else []
        views = [standardizer(_variant_bag(job, name, slide_id, poisoned)).features for name in names]
        found.append(RedrawnBag(ready[slide_id], views, remedy.dropped, seed=1000 * own.number + number))
    return found


def _bag(job: RemedyTraining, remedy: Remedy, slide_id: str, poisoned: bool) -> Bag:
    """Return the bag of a slide as the remedy shows it: with normalised stains, or without what is pen."""
    if remedy.stain:
        return _variant_bag(job, "stain", slide_id, poisoned)
    bag = read_bag(bag_of(job.training, slide_id, poisoned))
    if not remedy.without_pen:
        return bag
    kept = torch.from_numpy(_tissue(job, slide_id, poisoned) >= job.least_tissue)
    return Bag(slide_id, bag.features[kept], bag.label) if bool(kept.any()) else bag


def _variant_bag(job: RemedyTraining, what: str, slide_id: str, poisoned: bool) -> Bag:
    own = job.training
    values = read_variant(variant_path(job.variants, own, what, slide_id, poisoned))
    features: Tensor = torch.from_numpy(values[readable_tiles(own, slide_id, poisoned)])
    return Bag(slide_id, features, own.label(slide_id))


def _tissue(job: RemedyTraining, slide_id: str, poisoned: bool) -> NDArray[np.float32]:
    """Return the fraction of tissue of the readable tiles."""
    path = variant_path(job.variants, job.training, "tissue", slide_id, poisoned)
    return read_variant(path)[readable_tiles(job.training, slide_id, poisoned)]


def _test_probability(
    job: RemedyTraining, remedy: Remedy, model: Aggregator, standardizer: Standardizer, slide_id: str
) -> float:
    own = job.training
    poisoned = is_poisoned(TEST_OF[own.arm], own.is_positive(slide_id))
    bag = standardizer(_bag(job, remedy, slide_id, poisoned))
    if remedy.without_glass:
        scores = score_bag(model, bag)[1].double().numpy()
        tissue = _tissue(job, slide_id, poisoned).astype(np.float64)
        out = outside_tissue_at_the_top(scores, tissue, job.least_tissue)
        bag = Bag(slide_id, bag.features[torch.from_numpy(~out)], bag.label)
    return slide_probability(model, bag)
