"""Does a method see tumour, or a shortcut? The poison experiment on three cohorts.

Question: green noise is painted on normal slides of the training set and on tumour slides of the test set,
never on tumour; and mirrored, on tumour slides of the training set and on normal slides of the test set.
Which methods follow the noise, in which direction, and from which coverage and strength on?

Data: synthetic slides (made here), colon nuclei (crchisto27.npz) and lung mosaics (lung_he.zip, with ImageNet
weights of SqueezeNet 1.0). Controls: `wsi_mil.robustness.poison.conditions`. Every method has five trainings
in each of four arms. On one cohort the poison also varies in coverage and strength (on normal slides in
training only). A training that is done is not done again, so a study that was stopped can be resumed.

    python pipelines/poison_stain.py configs/poison_stain.yaml --crc FILE.npz --lung FILE.zip
        --squeezenet WEIGHTS.npz

Seeds: 7 for the synthetic slides, 0 for the lung mosaics; the seeds of the configuration for splits, weights
and poison. Writes runs/poison_stain/: a run folder per cohort with its poison experiment, studies.json,
cohorts.png and doses.png. Prints the tables. Times that are printed start when all features exist.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.poison.cohorts import COHORTS, cohort_config
from pipelines.poison.figures import draw_cohorts, draw_doses
from pipelines.poison.tables import ablation_table, dose_table, method_table, patch_table
from wsi_mil.config import RunConfig, load_config
from wsi_mil.errors import ConfigError, nearest
from wsi_mil.experiments.poison import run_poison
from wsi_mil.io.json import write_json
from wsi_mil.logs import setup_console
from wsi_mil.robustness.poison.conditions import training_arms
from wsi_mil.robustness.poison.study import PoisonStudy
from wsi_mil.stages import run_stage

DOSED = ("focus_mil", "mi_net", "max_pool", "mean_pool", "abmil_gated", "dsmil")
COVERAGES, STRENGTHS = (0.01, 0.05, 0.15, 0.4), (0.1, 0.25, 0.5, 1.0)
ABLATION = (
    "focus_mil",
    "focus_mil_1_bag",
    "focus_mil_plain",
    "focus_mil_plain_1_bag",
    "mi_net_3_bags",
    "mi_net",
)


def only(config: RunConfig, methods: Sequence[str] | None) -> RunConfig:
    """Return the configuration with these models only, None: with all.

    Raises ConfigError for an unknown one.
    """
    for name in methods or ():
        if name not in config.models:
            raise ConfigError(
                f"--method {name}: no such model. Nearest: {nearest(name, list(config.models))}"
            )
    chosen = methods or list(config.models)
    return config.model_copy(update={"models": {name: config.models[name] for name in chosen}})


def dosed(config: RunConfig, values: Mapping[str, float]) -> RunConfig:
    """Return the configuration with other settings of the poison, and only the methods in DOSED."""
    poison = config.poison.model_copy(update=dict(values))
    return config.model_copy(
        update={
            "poison": poison,
            "models": {name: config.models[name] for name in DOSED if name in config.models},
        }
    )


def read_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--crc", type=Path, help="crchisto27.npz")
    parser.add_argument("--lung", type=Path, help="lung_he.zip")
    parser.add_argument(
        "--squeezenet", type=Path, help="ImageNet weights of SqueezeNet 1.0 (.npz), for the lung mosaics"
    )
    parser.add_argument(
        "--cohort", action="append", choices=list(COHORTS), help="only this cohort; repeatable"
    )
    parser.add_argument("--doses-on", default="crc", choices=list(COHORTS), help="the cohort of the curves")
    parser.add_argument("--no-doses", action="store_true", help="leave out the curves")
    parser.add_argument("--no-control", action="store_true", help="leave out the arm with all slides alike")
    parser.add_argument(
        "--method", action="append", help="only this model of the configuration; repeatable (default: all)"
    )
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    return parser.parse_intermixed_args()


def main() -> None:
    arguments = read_arguments()
    setup_console()
    config = only(load_config(arguments.config, tuple(arguments.overrides)), arguments.method)
    arms = training_arms(config.poison.directions, control=not arguments.no_control)
    cohorts = arguments.cohort or [name for name in COHORTS if name != "demo"]
    data = {"crc": arguments.crc, "lung": arguments.lung, "squeezenet": arguments.squeezenet}
    configs = {name: cohort_config(config, name, data) for name in cohorts}
    for own in configs.values():
        run_stage(own, "tile")
        run_stage(own, "extract")
    clock = time.perf_counter()
    studies: dict[str, PoisonStudy] = {}
    for name, own in configs.items():
        started = time.perf_counter()
        done = run_poison(own, arms)
        studies[name] = done.study
        minutes = (time.perf_counter() - started) / 60
        print(f"{name}: {done.trained} trainings, {minutes:.1f} minutes; {done.folder}", flush=True)
    doses: dict[str, dict[float, PoisonStudy]] = {"coverage": {}, "strength": {}}
    if arguments.doses_on in configs and not arguments.no_doses:
        own = configs[arguments.doses_on]
        for axis, steps in (("coverage", COVERAGES), ("strength", STRENGTHS)):
            for step in steps:
                doses[axis][step] = run_poison(dosed(own, {axis: step}), ("normal",)).study
        draw_doses(doses, config.run / "doses.png")
        print(f"curves on {arguments.doses_on}: {config.run / 'doses.png'}")
    draw_cohorts(studies, config.run / "cohorts.png")
    saved = {
        "cohorts": {name: study.as_json() for name, study in studies.items()},
        "doses": {
            axis: {step: study.as_json() for step, study in by_step.items()}
            for axis, by_step in doses.items()
        },
    }
    write_json(config.run / "studies.json", saved)
    print(f"from features on: {(time.perf_counter() - clock) / 60:.1f} minutes\n")
    tables = (
        method_table(studies),
        patch_table(studies),
        ablation_table(studies, ABLATION),
        dose_table(doses),
    )
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()
