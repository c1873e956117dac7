"""One training: one model on one fold, from stored features to a saved model. Runs in a worker process."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_mil.aggregators import Aggregator, build_aggregator, outputs_for
from wsi_mil.bags import Fold, StoredBag
from wsi_mil.encoders.base import pick_device
from wsi_mil.errors import WsiMilError
from wsi_mil.evaluation.measure import measure_all, values
from wsi_mil.evaluation.predictions import PredictedSlides
from wsi_mil.evaluation.slide_level import slide_metrics
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import TrainedModel, choose_threshold, slide_probability
from wsi_mil.scoring.card import TrainingRecord
from wsi_mil.scoring.scores import Prediction, bag_logits, predict_slide
from wsi_mil.scoring.thresholds import Threshold
from wsi_mil.stages.training_set import TrainingSet, encoder_digest, read_bags
from wsi_mil.tasks import Task
from wsi_mil.training import FitResult, Standardizer, TrainSpec, fit

OUT_OF_MEMORY = (
    "train.bags_per_batch or execution.workers, or take a max-pooling method (focus_mil, mi_net, max_pool): "
    "they train in chunks of train.chunk_rows"
)


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a worker process needs to train one model on one fold.

    number: of the fold. annotated: slides whose outlines the model may see. inputs: the digest of all that
    the model is made from. device: as in the settings; the process that trains resolves it.
    """

    run: Path
    name: str
    spec: TrainSpec
    data: TrainingSet
    fold: Fold
    number: int
    split_digest: str
    annotated: tuple[str, ...]
    inputs: str
    device: str
    needs_gpu: bool = False

    @property
    def title(self) -> str:
        return f"{self.name} fold {self.number}"

    @property
    def aggregator(self) -> str:
        """The registry name of the method."""
        return self.spec.aggregator or self.name

    @property
    def seeded_spec(self) -> TrainSpec:
        """The settings with the seed of this fold."""
        return self.spec.model_copy(update={"seed": self.spec.seed + 1000 * self.number})


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended, in one line: the epoch that was kept, or why it failed."""

    text: str
    failed: bool = False


def train_one(job: TrainingJob) -> TrainingResult:
    """Train a model, choose its threshold on validation slides, measure it on the test part, and save it.

    Errors that a user can correct are returned as a failed result.
    """
    try:
        return _train(job)
    except WsiMilError as error:
        return TrainingResult(str(error), failed=True)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        cause = (str(error) or "no memory left").splitlines()[0]
        reason = f"out of memory with {job.spec.bags_per_batch} bags a step ({cause}): lower "
        return TrainingResult(reason + OUT_OF_MEMORY, failed=True)


def _train(job: TrainingJob) -> TrainingResult:
    run, fold = RunFolder(job.run), job.fold
    bags = read_bags(run, job.data, fold, job.annotated, job.spec.views)
    train = [bags[s] for s in fold.train]
    standardizer = Standardizer.fit(train) if job.spec.standardize else Standardizer.identity(train[0].dim)
    ready = {slide_id: standardizer(bag) for slide_id, bag in bags.items()}
    outputs = outputs_for(job.aggregator, job.data.task, job.spec.head)
    model = build_aggregator(
        job.aggregator, train[0].dim, outputs, job.seeded_spec.seed, job.spec.params, job.data.task
    )
    result = fit(
        model,
        [ready[s] for s in fold.train],
        [ready[s] for s in fold.val],
        job.seeded_spec,
        task=job.data.task,
        device=pick_device(job.device),
        folder=run.model(job.name, job.number),
        identity=job.inputs,
        label=f"train {job.title}",
    )
    model.cpu().eval()
    if job.data.task.kind == "detection":
        threshold, test = _measure_detection(job, model, ready)
    else:
        threshold, test = None, _measure_predictions(job, model, result.task, ready)
    _save(job, model, standardizer, result, threshold, test)
    merit = result.metrics.get(f"val_{result.task.merit}", math.nan)
    title = "AUC" if result.task.merit == "auc" else result.task.merit
    called = f", threshold {threshold.value:.3f}" if threshold else ""
    return TrainingResult(
        f"kept epoch {result.epoch} of {len(result.history)} (val {title} {merit:.3f}){called}"
    )


def _measure_detection(
    job: TrainingJob, model: Aggregator, bags: Mapping[str, StoredBag]
) -> tuple[Threshold, dict[str, float]]:
    """Return the threshold that validation slides choose, and the slide metrics of the test part at it."""
    fold = job.fold
    scored = {s: slide_probability(model, bags[s]) for s in (*fold.val, *fold.test)}
    truth = {s: int(job.data.task.is_positive(job.data.labels[s].label)) for s in scored}
    value = choose_threshold([scored[s] for s in fold.val], [truth[s] for s in fold.val])
    scores = np.array([scored[s] for s in fold.test])
    test = slide_metrics(np.array([truth[s] for s in fold.test]) > 0, scores, scores >= value, draws=0)
    return Threshold(value, "largest sensitivity + specificity", "val", fold.digest("val")), values(test)


def _measure_predictions(
    job: TrainingJob, model: Aggregator, task: Task, bags: Mapping[str, StoredBag]
) -> dict[str, float]:
    """Return the slide metrics of the test part for tasks other than detection."""
    test = job.fold.test
    found = [_predict(model, task, bags[s]) for s in test]
    slides = PredictedSlides.of(
        [job.data.labels[s].patient for s in test],
        [job.data.target(s) for s in test],
        [one.number for one in found],
        [one.class_probabilities for one in found],
        task.reading,
    )
    return values(measure_all(slides, 0, job.name, draws=0, task=task.kind))


def _predict(model: Aggregator, task: Task, bag: StoredBag) -> Prediction:
    return predict_slide(task, bag_logits(model, bag)[0])


def _save(
    job: TrainingJob,
    model: Aggregator,
    standardizer: Standardizer,
    result: FitResult,
    threshold: Threshold | None,
    test: dict[str, float],
) -> None:
    run, fold, data = RunFolder(job.run), job.fold, job.data
    training = TrainingRecord(
        spec=job.seeded_spec.model_copy(update={"aggregator": job.aggregator}),
        fold=job.number,
        repeat=fold.repeat,
        seed_number=fold.seed_number,
        split_digest=job.split_digest,
        train_digest=fold.digest("train"),
        kept_epoch=result.epoch,
        epochs_run=len(result.history),
        metrics={key: number for key, number in result.metrics.items() if number == number},
        test=test,
        train_slides=len(fold.train),
        val_slides=len(fold.val),
        test_slides=len(fold.test),
        annotated_slides=job.annotated,
    )
    TrainedModel(
        name=job.name,
        aggregator=model,
        standardizer=standardizer,
        task=result.task,
        tissue=data.tissue,
        tiles=data.tiles,
        encoder=data.encoder,
        encoder_digest=encoder_digest(run, data),
        threshold=threshold,
        training=training,
    ).save(run.model(job.name, job.number), job.inputs)
