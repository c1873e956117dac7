"""What helps against a shortcut? Remedies under the poison, in both directions.

Question: a method follows the green noise of `poison_stain.py` (or resists it in one direction only). Do the
usual remedies change that? Compared are, one by one: stain normalisation (Macenko), stain views in training,
leaving out what is no tissue once pen is removed, leaving out the highest tiles outside tissue, instance
dropout, and equally many slides of every centre and class.

Data: those of `poison_stain.py` (its run folders are used, so what exists there is not made again), and a
small generated cohort, `demo`.

    python pipelines/poison_remedies.py configs/poison_remedies.yaml --crc FILE.npz --cohort crc --cohort demo
        --method mi_net --remedy none --remedy stain --folds 3

Each training is a file in the folder of the cohort's poison, written once: a study that was stopped can be
resumed, and other cohorts, methods, remedies or folds are added. Seeds: 7 for the generated slides, 0 for the
lung mosaics; the seed of the configuration, plus 1000 a fold, for splits, weights and draws. Prints a
Markdown table: slide AUC clean, poisoned and mirrored, mean over folds and the worst fold.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.poison.cohorts import COHORTS, cohort_config
from pipelines.poison.remedies import REMEDIES
from pipelines.poison.remedy_features import VARIANTS, VariantJob, make_variant
from pipelines.poison.remedy_table import ARMS, Row, remedy_table
from pipelines.poison.remedy_training import RemedyTraining, train_with_remedy
from pipelines.poison_stain import only
from wsi_mil.bags import make_split
from wsi_mil.config import RunConfig, load_config
from wsi_mil.execution import run_jobs, stopped_at_the_end
from wsi_mil.experiments.poison_inputs import PoisonTraining
from wsi_mil.experiments.poison_jobs import poison_trainings, with_readable_outlines
from wsi_mil.experiments.poison_slides import poisoned_set
from wsi_mil.experiments.poison_store import poison_folder
from wsi_mil.logs import setup_console
from wsi_mil.run.context import RunContext, open_run
from wsi_mil.run.lock import locked
from wsi_mil.stages import run_stage


def study_cohort(
    config: RunConfig, cohort: str, remedies: Sequence[str], folds: int, variants: Path
) -> list[Row]:
    """Return the results of a cohort; trainings and variants that exist are not made again."""
    run_stage(config, "tile")
    run_stage(config, "extract")
    with locked(config.run):
        context = open_run(config, keep_configuration=True)
        data = poisoned_set(context)
        split = make_split(list(data.labels.values()), config.split)
        every = poison_trainings(context, data, split, ARMS)
        chosen = with_readable_outlines(context, [job for job in every if job.number < folds])
        asked = [name for name in remedies if name != "balanced" or _has_centres(data.labels)]
        _make_variants(context, chosen[0], asked, variants)
        centres = {slide_id: label.centre for slide_id, label in data.labels.items()}
        folder = poison_folder(context.run, config.poison) / "remedies"
        jobs = [
            RemedyTraining(job, name, variants, config.tiles.min_tissue_fraction, centres, folder)
            for job in chosen
            for name in asked
        ]
        results = run_jobs(train_with_remedy, jobs, spec=config.execution)
        with stopped_at_the_end(results):
            found = list(results)
    return [
        (cohort, job.training.name, job.remedy, job.training.arm, job.training.number, result["slide_auc"])
        for job, result in zip(jobs, found, strict=True)
    ]


def _has_centres(labels: Mapping[str, object]) -> bool:
    """Return whether the slides come from several centres."""
    return len({getattr(label, "centre", "") for label in labels.values()}) > 1


def _make_variants(
    context: RunContext, training: PoisonTraining, remedies: Sequence[str], folder: Path
) -> None:
    """Write what the remedies need of every slide, clean and poisoned."""
    asked = [REMEDIES[name] for name in remedies]
    needed = [
        what
        for what, wanted in (
            *((name, any(r.stain for r in asked)) for name in VARIANTS[:1]),
            *((name, any(r.views for r in asked)) for name in VARIANTS[1:]),
            ("tissue", any(r.without_pen or r.without_glass for r in asked)),
        )
        if wanted
    ]
    config = context.config
    tissue = config.tissue.model_copy(update={"ink": True})
    jobs = [
        VariantJob(training, source, config.slides.reader, tissue, what, poisoned, folder)
        for source in context.slides
        if source.slide_id in training.labels
        for what in needed
        for poisoned in (False, True)
    ]
    results = run_jobs(make_variant, jobs, spec=config.execution)
    with stopped_at_the_end(results):
        for _ in results:
            pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--crc", type=Path, help="crchisto27.npz")
    parser.add_argument("--lung", type=Path, help="lung_he.zip")
    parser.add_argument("--squeezenet", type=Path, help="ImageNet weights of SqueezeNet 1.0 (.npz)")
    parser.add_argument("--cohort", action="append", choices=list(COHORTS), help="repeatable; default: all")
    parser.add_argument("--method", action="append", help="a model of the configuration; repeatable")
    parser.add_argument("--remedy", action="append", choices=list(REMEDIES), help="repeatable; default: all")
    parser.add_argument("--folds", type=int, default=5, help="the first folds of the split (default: 5)")
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    arguments = parser.parse_intermixed_args()
    setup_console()
    config = only(load_config(arguments.config, tuple(arguments.overrides)), arguments.method)
    data = {"crc": arguments.crc, "lung": arguments.lung, "squeezenet": arguments.squeezenet}
    started = time.perf_counter()
    rows: list[Row] = []
    for cohort in arguments.cohort or ("crc", "lung", "demo"):
        own = cohort_config(config, cohort, data)
        remedies = arguments.remedy or list(REMEDIES)
        rows += study_cohort(own, cohort, remedies, arguments.folds, own.run / "remedies")
        print(f"{cohort}: {(time.perf_counter() - started) / 60:.1f} minutes so far", flush=True)
    print(remedy_table(rows))


if __name__ == "__main__":
    main()
