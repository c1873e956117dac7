"""The slides of the poison experiment: those with clean and with poisoned features."""

from dataclasses import replace
from functools import partial

from wsi_mil.encoders.shared import shared_encoder
from wsi_mil.errors import DataError
from wsi_mil.evaluation import AnnotationRules
from wsi_mil.execution import map_slides
from wsi_mil.experiments.poison_features import PoisonJob, poison_one
from wsi_mil.experiments.poison_store import poisoned_features
from wsi_mil.io.remote import Location
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext
from wsi_mil.run.killed import without_killers_of
from wsi_mil.run.recording import record_outcomes
from wsi_mil.stages.training_set import TrainingSet, training_set

PREVIEWS = 4


def poisoned_set(context: RunContext) -> TrainingSet:
    """Write the poisoned features; return the labelled slides that have both clean and poisoned features.

    Raises DataError if normal slides or tumour slides are missing among them.
    """
    config, run = context.config, context.run
    data = training_set(
        run, context.require_labels(), config.tissue, config.tiles, config.encoder, config.annotations
    )
    both = write_poisoned_features(context, data)
    labels = {s: data.labels[s] for s in both}
    lost = sorted(set(data.labels) - set(both))
    if lost:
        logger().warning(
            "poison: %d of %d slides are left out, the first is %s; outcomes.csv gives the reasons",
            len(lost),
            len(data.labels),
            lost[0],
        )
    if len({data.task.is_positive(row.label) for row in labels.values()}) < 2:
        reasons = sorted({row.reason for row in run.ledger.rows("poison") if row.status == "failed"})
        raise DataError(
            f"poison needs normal and tumour slides, {len(labels)} slides are left: {next(iter(reasons), '')}"
        )
    return replace(data, labels=labels, features_digests={s: data.features_digests[s] for s in both})


def write_poisoned_features(context: RunContext, data: TrainingSet) -> list[str]:
    """Write the poisoned features of the slides in `data`; return the ids of those that have them.

    Raises EncoderError if the encoder cannot be loaded on this machine, unless Dask workers load it.
    """
    execution = context.config.execution
    if execution.backend == "local":  # a missing encoder fails here once, not per slide
        shared_encoder(context.config.encoder, execution.device)
    jobs = _jobs(context, data)
    one = execution if execution.backend == "dask" else execution.model_copy(update={"workers": 1})
    work = partial(map_slides, poison_one, stage="poison", spec=one)
    outcomes = without_killers_of(context.run, "poison", jobs, work, _files)
    record_outcomes(context.run, "poison", outcomes, len(jobs))
    return [job.slide_id for job in jobs if _is_current(context, job.slide_id)]


def _files(job: PoisonJob) -> list[Location]:
    """Return the files that a job reads: the slide, and its outlines."""
    return [path for path in (job.source.path, job.outline) if path is not None]


def _jobs(context: RunContext, data: TrainingSet) -> list[PoisonJob]:
    config, annotations = context.config, context.config.annotations
    labels, task = data.labels, data.task
    usable = [source for source in context.slides if source.slide_id in labels]
    tumour = [s.slide_id for s in usable if task.is_positive(labels[s.slide_id].label)]
    normal = [s.slide_id for s in usable if s.slide_id not in tumour]
    shown = [*normal[: PREVIEWS // 2], *tumour[: PREVIEWS // 2]]
    return [
        PoisonJob(
            slide_id=source.slide_id,
            positive=task.is_positive(labels[source.slide_id].label),
            source=source,
            reader=config.slides.reader,
            run=context.run.path,
            spec=config.poison,
            encoder=config.encoder,
            features_digest=data.features_digests[source.slide_id],
            outline=annotations.find(source.slide_id) if annotations else None,
            rules=annotations.rules if annotations else AnnotationRules(),
            qupath=config.qupath,
            device=config.execution.device,
            threads=config.execution.resolved_threads(),
            preview=source.slide_id in shown,
            needs_gpu=config.execution.asks_for_gpu,
        )
        for source in usable
    ]


def _is_current(context: RunContext, slide_id: str) -> bool:
    row = context.run.ledger.get(slide_id, "poison")
    config = context.config
    stored = poisoned_features(context.run, config.poison, slide_id, config.encoder.key)
    return stored is not None and row is not None and row.status == "done" and stored.readable_rows > 0


def fraction_of_tiles(context: RunContext, data: TrainingSet) -> float:
    """Return the fraction of a slide's tiles that the poison touches, mean over slides."""
    spec, key = context.config.poison, context.config.encoder.key
    fractions = []
    for slide_id in data.labels:
        found = poisoned_features(context.run, spec, slide_id, key)
        if found is not None and found.origin.poison is not None:
            counts = found.origin.poison.counts
            fractions.append(counts["poisoned"] / max(counts["tiles"], 1))
    return float(sum(fractions) / len(data.labels))
