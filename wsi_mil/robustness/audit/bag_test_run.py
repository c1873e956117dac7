"""Train an aggregator on the bags of one test, and measure it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.aggregators import Aggregator, build_aggregator, outputs_for
from wsi_mil.contracts.bags import Bag
from wsi_mil.contracts.score_kinds import score_kind
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.randomness import named_generator
from wsi_mil.robustness.audit.bag_test_results import BagTestResult
from wsi_mil.robustness.audit.bag_tests import load_bag_test
from wsi_mil.robustness.audit.bag_tests.base import CONCEPT, BagSet, BagSizes, InvarianceTest, draw_bag_set
from wsi_mil.scoring import choose_threshold, score_bag
from wsi_mil.tasks.classes import class_index
from wsi_mil.training import Standardizer, TrainSpec, fit

TRAINING = TrainSpec(
    epochs=10, bags_per_batch=8, lr=2e-3, select_by="last", weight_decay=1e-4, warm_up="none"
)
PARAMS: dict[str, dict[str, Any]] = {"transmil": {"hidden": 64, "heads": 4, "landmarks": 16}}
"""Sizes for bags of tens of instances with 16 dimensions; the method's own defaults are for slides."""
EPOCHS = {"transmil": 4}
"""TransMIL processes bags one by one, ten times slower than the others, so it gets fewer epochs. If they are
too few, its verdict is 'not learned'.
"""


@dataclass(frozen=True)
class BagTestJob:
    """What a worker process needs: an aggregator's registry name (or package.module:Class), a test,
    a seed.
    """

    name: str
    test: str
    seed: int
    sizes: BagSizes = field(default_factory=BagSizes)
    training: TrainSpec = TRAINING


@dataclass(frozen=True)
class Trained:
    """A trained aggregator with the standardisation of its features."""

    model: Aggregator
    standardizer: Standardizer

    def ready(self, bag: Bag) -> Bag:
        """Return the bag as the aggregator takes it."""
        return self.standardizer(bag)

    def probability(self, bag: Bag) -> float:
        """Return the probability that a bag is positive."""
        return float(1 - score_bag(self.model, self.ready(bag))[0][0])

    def auc(self, bags: Sequence[Bag]) -> float:
        """Return the AUC of the probabilities of bags."""
        return auc(np.array([bag.label == 1 for bag in bags]), np.array([self.probability(b) for b in bags]))


def run_bag_test(job: BagTestJob) -> BagTestResult:
    """Train on the test's training bags, keep the last epoch, and measure; equal jobs give equal numbers.

    >>> quick = TRAINING.model_copy(update={"epochs": 8})
    >>> job = BagTestJob("mi_net", "single_concept", 0, BagSizes(100, 40), quick)
    >>> run_bag_test(job).test_auc > 0.75
    True
    """
    started = time.perf_counter()
    test = load_bag_test(job.test)
    bags = draw_bag_set(test, named_generator(job.seed, job.test, "bags"), job.sizes)
    trained = train(job, bags.train)
    if isinstance(test, InvarianceTest):
        measured, instances = _invariance(job, test, trained, bags), float("nan")
    else:
        measured, instances = trained.auc(bags.test), _instance_auc(trained, bags)
    train_auc = trained.auc(bags.train)
    return BagTestResult(job.test, job.seed, train_auc, measured, instances, time.perf_counter() - started)


def train(job: BagTestJob, bags: Sequence[Bag]) -> Trained:
    """Return the aggregator of a job, trained on `bags` until the last epoch."""
    standardizer = Standardizer.fit(bags)
    outputs = outputs_for(job.name, classes=2)
    model = build_aggregator(job.name, bags[0].dim, outputs, job.seed, PARAMS.get(job.name, {}))
    epochs = min(job.training.epochs, EPOCHS.get(job.name, job.training.epochs))
    spec = job.training.model_copy(update={"seed": job.seed, "epochs": epochs})
    fit(model, [standardizer(bag) for bag in bags], [], spec, label=f"{job.name} {job.test}")
    return Trained(model.eval(), standardizer)


def _instance_auc(trained: Trained, bags: BagSet) -> float:
    """The AUC of instance scores, over all test bags together, for finding the instances of the concept."""
    scored = [score_bag(trained.model, trained.ready(bag)) for bag in bags.test]
    values = [
        score_kind(kind).comparable(scores.double().numpy(), float(1 - probabilities[0]))
        for probabilities, scores, kind in scored
    ]
    kinds = np.concatenate([bags.kinds[bag.slide_id] for bag in bags.test])
    return auc(kinds == CONCEPT, np.concatenate(values))


def _invariance(job: BagTestJob, test: InvarianceTest, trained: Trained, bags: BagSet) -> float:
    """The fraction of right calls after the change, of the positive test bags that the model calls positive;
    NaN without any. The threshold comes from the training bags.
    """
    on_train = [trained.probability(bag) for bag in bags.train]
    threshold = choose_threshold(on_train, [class_index(bag.label) for bag in bags.train])

    def positive(chosen: Sequence[Bag]) -> NDArray[np.bool_]:
        return np.array([trained.probability(bag) >= threshold for bag in chosen], bool)

    found = [bag for bag in bags.test if bag.label and trained.probability(bag) >= threshold]
    if not found:
        return float("nan")
    change = _changer(job, test, bags)
    specificity = float((~positive([bag for bag in bags.test if not bag.label])).mean())
    return test.fraction(positive([change(bag) for bag in found]), specificity)


def _changer(job: BagTestJob, test: InvarianceTest, bags: BagSet) -> Callable[[Bag], Bag]:
    def change(bag: Bag) -> Bag:
        rng = named_generator(job.seed, job.test, bag.slide_id)
        instances = (bag.features.double().numpy(), bags.kinds[bag.slide_id])
        return Bag(bag.slide_id, torch.from_numpy(test.change(instances, rng)).float(), bag.label)

    return change
