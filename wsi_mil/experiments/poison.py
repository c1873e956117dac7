"""poison: train every method on clean and on poisoned slides, and say which of them follows the poison instead of the tumour."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsi_mil.aggregators import AGGREGATORS
from wsi_mil.bags import Split, make_split
from wsi_mil.config import RunConfig, load_config
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.encoders.base import pick_device
from wsi_mil.errors import DataError
from wsi_mil.evaluation.intervals import spread
from wsi_mil.execution import run_jobs
from wsi_mil.experiments.poison_features import poison_folder, poisoned_store, run_poison_features
from wsi_mil.experiments.poison_training import PoisonTraining, poison_train_one
from wsi_mil.io.files import digest_file, digest_json, read_json, write_json, write_text
from wsi_mil.io.json import without_nan
from wsi_mil.logs import logger, progress
from wsi_mil.report.poison_figure import draw_poison
from wsi_mil.robustness.poison.conditions import CONDITIONS, TRAINING_ARMS, Arm, loss_of_auc, poison_verdict
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.context import RunContext, open_run
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import locked
from wsi_mil.stages import extract, tile
from wsi_mil.stages.report import run_report
from wsi_mil.stages.train import TrainingSet, side_by_side, training_set

FORMAT = 1
IN_MEMORY_BYTES = 1 << 30
METRICS = ("slide_auc", "patch_auc", "froc", "poison_share", "poison_top")
COLUMNS = (
    "model",
    "arm",
    "condition",
    "fold",
    *METRICS,
    "train_auc",
    "val_auc",
    "last_val_auc",
    "kept_epoch",
)


@dataclass(frozen=True)
class PoisonStudy:
    """What `run_poison` found: poison.json's content, its folder, how many trainings were needed, slides that could not be poisoned."""

    found: dict[str, Any]
    folder: Path
    trained: int
    problems: tuple[Outcome, ...]


def run_poison(config: RunConfig, arms: Sequence[Arm] = TRAINING_ARMS) -> PoisonStudy:
    """Tile, extract, poison, train and measure every model of `config` under `config.poison`; write poison.json, trainings.csv and
    poison.png below RUN/poison. What is up to date is left alone; the run's own models, split and configuration are not touched.

    `arms`: which trainings are made; 'none' and 'normal' are the experiment itself, 'all' a control.
    A report that the run has already gets its part about poison. Raises DataError if no slide of one class could be poisoned.
    """
    with locked(config.run):
        context = open_run(config, keep_configuration=True)
        tile.run(context)
        extract.run(context)
        run, spec = context.run, config.poison
        data = _slides_with_both(context)
        split = make_split(list(data.labels.values()), config.split)
        jobs = _jobs(context, data, split, arms)
        waiting = [job for job in jobs if not _is_done(job)]
        execution = side_by_side(config.execution, len(jobs), jobs[0].device)
        results = run_jobs(poison_train_one, waiting, spec=execution)
        for job, found in zip(
            waiting, progress(results, total=len(waiting), label="poison", unit="training"), strict=True
        ):
            logger().debug("%s %s fold %d: %s", job.name, job.arm, job.number, found["conditions"])
        rows = [read_json(job.result) for job in jobs]
        touched = _touched(run, spec, config.encoder.key, data)
        study = without_nan(summarise_poison(spec, list(config.models), rows, touched))
        folder = poison_folder(run, spec)
        split.save(folder / "split.json")
        write_text(folder / "trainings.csv", _table(rows))
        write_json(folder / "poison.json", study)
        draw_poison(study, folder / "poison.png")
        if run.report.exists():  # of the run's own models, which need not be those poisoned here
            models = list(load_config(run.path).models)
            run_report(run, context.slides, config.slides.reader, context.labels, models)
        problems = tuple(row for row in run.ledger.rows("poison") if row.status == "failed")
        return PoisonStudy(study, folder, len(waiting), problems)


def _slides_with_both(context: RunContext) -> TrainingSet:
    """The labelled slides that have clean and poisoned features."""
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
            "poison: %d of %d slides are left out (outcomes.csv says why), first %s",
            len(lost),
            len(data.labels),
            lost[0],
        )
    if len({(row.label or 0) > 0 for row in labels.values()}) < 2:
        reasons = {row.reason for row in run.ledger.rows("poison") if row.status == "failed"}
        raise DataError(
            f"poison needs normal and tumour slides, {len(labels)} slides are left: {next(iter(sorted(reasons)), '')}"
        )
    return TrainingSet(
        labels,
        data.class_names,
        {s: data.features_digests[s] for s in both},
        data.tissue,
        data.tiles,
        data.encoder,
        data.annotations,
    )


def _jobs(context: RunContext, data: TrainingSet, split: Split, arms: Sequence[Arm]) -> list[PoisonTraining]:
    config, run = context.config, context.run
    spec, key = config.poison, config.encoder.key
    device = str(pick_device(config.execution.device))
    folder = poison_folder(run, spec)
    outlines = {
        s: path for s in data.labels if data.annotations and (path := data.annotations.find(s)) is not None
    }
    digests = {s: _digest(run, spec, key, s) for s in data.labels}
    stored = [found for s in data.labels if (found := run.store(s).stored_features(key)) is not None]
    rows, dim = sum(found.rows for found in stored), stored[0].dim
    truth = {s: digest_file(path) for s, path in sorted(outlines.items())}
    jobs = []
    for name in config.models:
        train = config.train_spec(name)
        _ = AGGREGATORS[train.aggregator or name]
        for number, fold in enumerate(split.folds):
            inputs = digest_json(
                {
                    "poison": spec.digest(),
                    "spec": train.model_dump(mode="json"),
                    "fold": [number, fold.train, fold.val, fold.test],
                    "features": [digests[s] for part in (fold.train, fold.val, fold.test) for s in part],
                    "labels": [
                        data.labels[s].label for part in (fold.train, fold.val, fold.test) for s in part
                    ],
                    "truth": truth,
                    "evaluation": config.evaluation.digest(),
                }
            )
            jobs += [
                PoisonTraining(
                    run=run.path,
                    poison=spec,
                    name=name,
                    spec=train,
                    arm=arm,
                    fold=fold,
                    number=number,
                    labels=data.labels,
                    classes=len(data.class_names),
                    encoder=config.encoder,
                    evaluation=config.evaluation,
                    outlines=outlines,
                    bounds=data.annotations.bounds if data.annotations else "auto",
                    device=device,
                    in_memory=2 * 4 * rows * dim < IN_MEMORY_BYTES,
                    inputs=digest_json([inputs, arm]),
                    result=folder / "trainings" / f"{name}_{arm}_fold{number}.json",
                )
                for arm in arms
            ]
    return jobs


def _digest(run: RunFolder, spec: PoisonSpec, key: str, slide_id: str) -> list[str]:
    stores = (run.store(slide_id), poisoned_store(run, spec, slide_id))
    return [str(found.digest if (found := store.stored_features(key)) else None) for store in stores]


def _is_done(job: PoisonTraining) -> bool:
    return job.result.exists() and read_json(job.result).get("inputs_digest") == job.inputs


def _touched(run: RunFolder, spec: PoisonSpec, key: str, data: TrainingSet) -> float:
    """The share of tiles that carry poison, mean over slides."""
    stored = [poisoned_store(run, spec, s).stored_features(key) for s in data.labels]
    counts = [found.origin.poison.counts for found in stored if found and found.origin.poison]
    return float(sum(c["poisoned"] / max(c["tiles"], 1) for c in counts) / len(counts))


def summarise_poison(
    spec: PoisonSpec, models: Sequence[str], rows: Sequence[Mapping[str, Any]], touched: float
) -> dict[str, Any]:
    """Return poison.json: per model the spread of every metric over its trainings in every condition, and a verdict."""
    found = []
    for name in models:
        conditions: dict[str, Any] = {}
        values: dict[str, list[float]] = {}
        own = sorted((row for row in rows if row["model"] == name), key=lambda row: row["fold"])
        for condition in CONDITIONS:
            measured = [row["conditions"][condition] for row in own if condition in row["conditions"]]
            if not measured:
                continue
            values[condition] = [_number(m["slide_auc"]) for m in measured]
            conditions[condition] = {
                key: asdict(spread([_number(m[key]) for m in measured])) for key in METRICS
            }
        entry: dict[str, Any] = {"model": name, "aggregator": own[0]["aggregator"], "conditions": conditions}
        entry["score_kind"] = next(iter(own[0]["conditions"].values()))["score_kind"]
        for arm in dict.fromkeys(row["arm"] for row in own):
            of_arm = [row for row in own if row["arm"] == arm]
            entry[f"train_auc_{arm}"] = asdict(spread([_number(row["train_auc"]) for row in of_arm]))
        if "none" in values and "poison" in values:
            entry["loss"] = asdict(loss_of_auc(values["none"], values["poison"]))
            entry["verdict"] = poison_verdict(values["none"], values["poison"])
        found.append(entry)
    return {
        "kind": "poison study",
        "format_version": FORMAT,
        "poison": spec.model_dump(mode="json"),
        "title": spec.title,
        "share_of_tiles": touched,
        "models": found,
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """trainings.csv: one row per training and condition."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        for condition, measured in row["conditions"].items():
            writer.writerow({**row, **measured, "condition": condition})
    return text.getvalue()
