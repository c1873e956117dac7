"""The poison experiment: which models follow a signal that has nothing to do with tumour?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.bags import make_split
from wsi_mil.config import RunConfig, load_config
from wsi_mil.config.validation import require_detection
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution import run_jobs, stopped_at_the_end
from wsi_mil.experiments.poison_jobs import is_done, poison_trainings, with_readable_outlines
from wsi_mil.experiments.poison_slides import fraction_of_tiles, poisoned_set
from wsi_mil.experiments.poison_store import poison_folder
from wsi_mil.experiments.poison_table import trainings_csv
from wsi_mil.experiments.poison_training import poison_train_one
from wsi_mil.io.files import write_text
from wsi_mil.io.json import read_json, write_json
from wsi_mil.logs import logger, progress
from wsi_mil.report.poison_figure import draw_poison
from wsi_mil.robustness.poison.conditions import Arm, training_arms
from wsi_mil.robustness.poison.study import PoisonStudy, PoisonTrainingResult, summarise_poison
from wsi_mil.run.context import open_run
from wsi_mil.run.lock import locked
from wsi_mil.stages import extract, tile
from wsi_mil.stages.report import run_report
from wsi_mil.stages.train import side_by_side


@dataclass(frozen=True)
class PoisonRun:
    """What `run_poison` did.

    trained: the number of trainings that were not done before. problems: slides that could not be poisoned.
    """

    study: PoisonStudy
    folder: Path
    trained: int
    problems: tuple[Outcome, ...]


def run_poison(config: RunConfig, arms: Sequence[Arm] | None = None) -> PoisonRun:
    """Tile, extract, poison, train and measure every model of `config` under `config.poison`.

    Writes poison.json, trainings.csv and poison.png below RUN/poison, and the run's report again if it has
    one. What is up to date is not done again; the run's own models, split and configuration stay as they are.
    arms: which trainings; None: those of `config.poison.directions`, and "all" as a control. "none" with
    "normal" or "tumour" is the experiment in one direction.

    Raises DataError if all slides of one class cannot be poisoned.
    """
    arms = training_arms(config.poison.directions) if arms is None else arms
    require_detection(config, "poison")
    with locked(config.run):
        context = open_run(config, keep_configuration=True, extracts=True)
        tile.run(context)
        extract.run(context)
        run, spec = context.run, config.poison
        data = poisoned_set(context)
        split = make_split(list(data.labels.values()), config.split)
        jobs = poison_trainings(context, data, split, arms)
        waiting = with_readable_outlines(context, [job for job in jobs if not is_done(job)])
        execution = side_by_side(config.execution, len(jobs))
        results = run_jobs(poison_train_one, waiting, spec=execution)
        with stopped_at_the_end(results):
            for found in progress(results, total=len(waiting), label="poison", unit="training"):
                logger().debug("%s %s fold %d: %s", found.model, found.arm, found.fold, found.conditions)
        rows = [PoisonTrainingResult.from_json(read_json(job.result)) for job in jobs]
        study = summarise_poison(spec, list(config.models), rows, fraction_of_tiles(context, data))
        folder = poison_folder(run, spec)
        split.save(folder / "split.json")
        write_text(folder / "trainings.csv", trainings_csv(rows))
        write_json(folder / "poison.json", study.as_json())
        draw_poison(study, folder / "poison.png")
        if run.report.exists():  # the run's own models, which can differ from those trained here
            models = list(load_config(run.path).models)
            reader = config.slides.reader
            run_report(run, context.slides, reader, context.labels, models, execution=config.execution)
        problems = tuple(row for row in run.ledger.rows("poison") if row.status == "failed")
        return PoisonRun(study, folder, len(waiting), problems)
