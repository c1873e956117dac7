"""The poison experiment: train every model on clean and on poisoned slides, and report which models follow
the poison.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from wsi_mil.bags import make_split
from wsi_mil.config import RunConfig, load_config
from wsi_mil.config.validation import require_detection
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import DataError
from wsi_mil.execution import run_jobs
from wsi_mil.experiments.poison_features import poison_folder, poisoned_store, run_poison_features
from wsi_mil.experiments.poison_jobs import is_done, poison_trainings
from wsi_mil.experiments.poison_training import poison_train_one
from wsi_mil.io.files import write_text
from wsi_mil.io.json import read_json, without_nan, write_json
from wsi_mil.io.tables import csv_text
from wsi_mil.logs import logger, progress
from wsi_mil.report.poison_figure import draw_poison
from wsi_mil.robustness.poison.conditions import TRAINING_ARMS, Arm
from wsi_mil.robustness.poison.study import METRICS, PoisonStudy, PoisonTrainingResult, summarise_poison
from wsi_mil.run.context import RunContext, open_run
from wsi_mil.run.lock import locked
from wsi_mil.stages import extract, tile
from wsi_mil.stages.report import run_report
from wsi_mil.stages.train import side_by_side
from wsi_mil.stages.training_set import TrainingSet, training_set

OF_TRAINING = ("train_auc", "val_auc", "last_val_auc", "kept_epoch")
COLUMNS = ("model", "arm", "condition", "fold", *METRICS, *OF_TRAINING)


@dataclass(frozen=True)
class PoisonRun:
    """What `run_poison` did: the study, its folder, the number of trainings that were not yet done, and the
    slides that could not be poisoned.
    """

    study: PoisonStudy
    folder: Path
    trained: int
    problems: tuple[Outcome, ...]


def run_poison(config: RunConfig, arms: Sequence[Arm] = TRAINING_ARMS) -> PoisonRun:
    """Tile, extract, poison, train and measure every model of `config` under `config.poison`.

    Writes poison.json, trainings.csv and poison.png below RUN/poison, and the run's report again if it has
    one. What is up to date is not done again; the run's own models, split and configuration stay as they are.
    arms: which trainings; "none" and "normal" are the experiment, "all" is a control. Raises DataError if all
    slides of one class cannot be poisoned.
    """
    require_detection(config, "poison")
    with locked(config.run):
        context = open_run(config, keep_configuration=True)
        tile.run(context)
        extract.run(context)
        run, spec = context.run, config.poison
        data = _poisoned_set(context)
        split = make_split(list(data.labels.values()), config.split)
        jobs = poison_trainings(context, data, split, arms)
        waiting = [job for job in jobs if not is_done(job)]
        execution = side_by_side(config.execution, len(jobs), jobs[0].device)
        results = run_jobs(poison_train_one, waiting, spec=execution)
        for found in progress(results, total=len(waiting), label="poison", unit="training"):
            logger().debug("%s %s fold %d: %s", found.model, found.arm, found.fold, found.conditions)
        rows = [PoisonTrainingResult.from_json(read_json(job.result)) for job in jobs]
        study = summarise_poison(spec, list(config.models), rows, _share_of_tiles(context, data))
        folder = poison_folder(run, spec)
        split.save(folder / "split.json")
        write_text(folder / "trainings.csv", trainings_csv(rows))
        write_json(folder / "poison.json", study.as_json())
        draw_poison(study, folder / "poison.png")
        if run.report.exists():  # the run's own models, which can differ from those trained here
            models = list(load_config(run.path).models)
            run_report(run, context.slides, config.slides.reader, context.labels, models)
        problems = tuple(row for row in run.ledger.rows("poison") if row.status == "failed")
        return PoisonRun(study, folder, len(waiting), problems)


def _poisoned_set(context: RunContext) -> TrainingSet:
    """The labelled slides that have both clean and poisoned features."""
    config, run = context.config, context.run
    data = training_set(
        run, context.require_labels(), config.tissue, config.tiles, config.encoder, config.annotations
    )
    both = run_poison_features(
        run,
        context.slides,
        data.labels,
        config.slides.reader,
        config.annotations,
        config.poison,
        config.encoder,
        config.execution,
        config.qupath,
    )
    labels = {s: data.labels[s] for s in both}
    lost = sorted(set(data.labels) - set(both))
    if lost:
        logger().warning(
            "poison: %d of %d slides are left out, the first is %s; outcomes.csv gives the reasons",
            len(lost),
            len(data.labels),
            lost[0],
        )
    if len({(row.label or 0) > 0 for row in labels.values()}) < 2:
        reasons = sorted({row.reason for row in run.ledger.rows("poison") if row.status == "failed"})
        raise DataError(
            f"poison needs normal and tumour slides, {len(labels)} slides are left: {next(iter(reasons), '')}"
        )
    return replace(data, labels=labels, features_digests={s: data.features_digests[s] for s in both})


def _share_of_tiles(context: RunContext, data: TrainingSet) -> float:
    """The fraction of tiles that the poison touches, mean over slides."""
    spec, key = context.config.poison, context.config.encoder.key
    shares = []
    for slide_id in data.labels:
        found = poisoned_store(context.run, spec, slide_id).stored_features(key)
        if found is not None and found.origin.poison is not None:
            counts = found.origin.poison.counts
            shares.append(counts["poisoned"] / max(counts["tiles"], 1))
    return float(sum(shares) / len(data.labels))


def trainings_csv(rows: Sequence[PoisonTrainingResult]) -> str:
    """Return trainings.csv: one row per training and condition, an empty cell for an undefined value."""
    cells = [
        {
            "model": row.model,
            "arm": row.arm,
            "condition": condition,
            "fold": row.fold,
            **{key: value for key, value in asdict(measured).items() if key in METRICS},
            **{key: getattr(row, key) for key in OF_TRAINING},
        }
        for row in rows
        for condition, measured in row.conditions.items()
    ]
    return csv_text(COLUMNS, without_nan(cells))
