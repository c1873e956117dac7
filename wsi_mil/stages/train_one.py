"""One training: one model on one fold, from stored features to a saved model. Runs in a worker process."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.aggregators import Aggregator, build_aggregator, outputs_for
from wsi_mil.bags import Fold, StoredBag
from wsi_mil.encoders.base import pick_device
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.evaluation.measure import measure_all, values
from wsi_mil.evaluation.predictions import PredictedSlides
from wsi_mil.evaluation.slide_level import slide_metrics
from wsi_mil.io.files import write_text
from wsi_mil.paths import child
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import TrainedModel, choose_threshold, slide_probability
from wsi_mil.scoring.calibration import Calibration, fit_calibration
from wsi_mil.scoring.card import TrainingRecord
from wsi_mil.scoring.scores import Prediction, bag_scores, predict_slide
from wsi_mil.scoring.thresholds import Threshold
from wsi_mil.stages.search import Trained, best_rate
from wsi_mil.stages.training_set import TrainingSet, encoder_digest, read_bags
from wsi_mil.tasks import Task
from wsi_mil.training import FitResult, Standardizer, TrainSpec, fit
from wsi_mil.training.learning import UNEXPLAINED, not_learned_line
from wsi_mil.training.loop import HISTORY, history_csv

RESTART_SEED = 1_000_000
"""A restart has a seed that no fold and no repeat has."""
OUT_OF_MEMORY = (
    "train.bags_per_batch or execution.workers, or take a max-pooling method (focus_mil, mi_net, max_pool): "
    "they train in chunks of train.chunk_rows"
)


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a worker process needs to train one model on one fold.

    number: of the fold. annotated: slides whose outlines the model may see. marks: which of their tiles (N,)
    are tumour, by slide id. inputs: the digest of all that
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
    marks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name} fold {self.number}"

    @property
    def aggregator(self) -> str:
        """The registry name of the method."""
        return self.spec.aggregator or self.name

    def seeded_spec(self, restart: int) -> TrainSpec:
        """Return the settings with the seed of this fold and restart."""
        seed = self.spec.seed + 1000 * self.number + RESTART_SEED * restart
        return self.spec.model_copy(update={"seed": seed})


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
    if job.annotated and not job.marks:
        raise DataError(
            f"no outline of the {len(job.annotated)} annotated training slides can be read, the first of "
            f"{job.annotated[0]!r}: correct the files"
        )
    bags = read_bags(run, job.data, fold, job.marks, job.spec.views)
    train = [bags[s] for s in fold.train]
    standardizer = Standardizer.fit(train) if job.spec.standardize else Standardizer.identity(train[0].dim)
    ready = {slide_id: standardizer(bag) for slide_id, bag in bags.items()}

    def trained(base: TrainSpec, folder: Path) -> Trained:
        return _fitted(job, ready, base.lr, folder)

    model, spec, result = best_rate(job.spec, run.model(job.name, job.number), trained)
    if job.data.task.kind == "detection":
        threshold, calibration, test = _measure_detection(job, model, ready)
    else:
        threshold, calibration, test = None, None, _measure_predictions(job, model, result.task, ready)
    _save(job, model, spec, standardizer, result, threshold, calibration, test)
    merit = result.metrics.get(f"val_{result.task.merit}", math.nan)
    title = "AUC" if result.task.merit == "auc" else result.task.merit
    called = f", threshold {threshold.value:.3f}" if threshold else ""
    called += f", lr {spec.lr:g} of {len(spec.search)}" if spec.search else ""
    restart = (spec.seed - job.seeded_spec(0).seed) // RESTART_SEED
    restarted = f", restart {restart}" if restart else ""
    return TrainingResult(
        f"kept epoch {result.epoch} of {len(result.history)} (val {title} {merit:.3f}){called}{restarted}"
        + ("" if result.learned is not False else f"; it {not_learned_line(result.metrics)}")
    )


def _fitted(job: TrainingJob, bags: Mapping[str, StoredBag], lr: float, folder: Path) -> Trained:
    """Train once, and again with other seeds, `restarts` times at most, while nothing was learned.

    Returns the first model that has learned, or else the one with the smallest validation loss, with its
    settings. Its metrics.csv lies in `folder`, the files of restart k in restart_<k>.
    """
    tried: list[Trained] = []
    for restart in range(job.spec.restarts + 1):
        spec = job.seeded_spec(restart).model_copy(update={"lr": lr})
        tried.append(_fit(job, bags, spec, child(folder, f"restart_{restart}") if restart else folder))
        if tried[-1][2].learned is not False:
            break
    best = tried[-1]
    if best[2].learned is False:
        best = min(tried, key=lambda one: one[2].metrics[UNEXPLAINED])
    write_text(folder / HISTORY, history_csv(best[2].history))
    return best


def _fit(job: TrainingJob, bags: Mapping[str, StoredBag], spec: TrainSpec, folder: Path) -> Trained:
    fold, task = job.fold, job.data.task
    outputs = outputs_for(job.aggregator, task, job.spec.head)
    dim = bags[fold.train[0]].dim
    model = build_aggregator(job.aggregator, dim, outputs, spec.seed, job.spec.params, task)
    result = fit(
        model,
        [bags[s] for s in fold.train],
        [bags[s] for s in fold.val],
        spec,
        task=task,
        device=pick_device(job.device),
        folder=folder,
        identity=job.inputs,
        label=f"train {job.title}",
    )
    model.cpu().eval()
    return model, spec, result


def _measure_detection(
    job: TrainingJob, model: Aggregator, bags: Mapping[str, StoredBag]
) -> tuple[Threshold, Calibration, dict[str, float]]:
    """Return threshold and calibration by validation slides, and the slide metrics of the test part."""
    fold = job.fold
    scored = {s: slide_probability(model, bags[s]) for s in (*fold.val, *fold.test)}
    truth = {s: int(job.data.task.is_positive(job.data.labels[s].label)) for s in scored}
    value = choose_threshold([scored[s] for s in fold.val], [truth[s] for s in fold.val])
    scores = np.array([scored[s] for s in fold.test])
    test = slide_metrics(np.array([truth[s] for s in fold.test]) > 0, scores, scores >= value, draws=0)
    digest = fold.digest("val")
    calibration = fit_calibration([scored[s] for s in fold.val], [truth[s] for s in fold.val], "val", digest)
    threshold = Threshold(value, "largest sensitivity + specificity", "val", digest)
    return threshold, calibration, values(test)


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
    return predict_slide(task, bag_scores(model, bag).logits)


def _save(
    job: TrainingJob,
    model: Aggregator,
    spec: TrainSpec,
    standardizer: Standardizer,
    result: FitResult,
    threshold: Threshold | None,
    calibration: Calibration | None,
    test: dict[str, float],
) -> None:
    run, fold, data = RunFolder(job.run), job.fold, job.data
    training = TrainingRecord(
        spec=spec.model_copy(update={"aggregator": job.aggregator}),
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
        annotated_slides=tuple(job.marks),
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
        calibration=calibration,
    ).save(run.model(job.name, job.number), job.inputs)
