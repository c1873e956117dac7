"""Does a method see tumour, or a shortcut? The poison experiment on synthetic slides, colon nuclei and lung mosaics.

Green noise on normal slides of the training set and on tumour slides of the test set, never on tumour, with its controls
(`wsi_mil.robustness.poison.conditions`). Every method, five trainings in each of three arms; on one cohort also curves over coverage and
strength. Slides, tiles and features first, then the clock runs.

    python pipelines/poison_stain.py configs/poison_stain.yaml --crc FILE.npz --lung FILE.zip --squeezenet WEIGHTS.npz
"""

import argparse
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pipelines.crc_cells as colon
import pipelines.lung_mosaic_slides as lung
from pipelines.poison_stain_tables import ablation_table, dose_table, draw_cohorts, draw_doses, method_table
from wsi_mil.config import RunConfig, load_config
from wsi_mil.experiments.poison import run_poison
from wsi_mil.io.json import write_json
from wsi_mil.logs import setup_console
from wsi_mil.robustness.poison.study import PoisonStudy
from wsi_mil.stages import run_stage

KFOLD = {"kind": "kfold", "folds": 5, "val_share": 0.2}
COHORTS: dict[str, dict[str, Any]] = {
    "synthetic": {
        "synthetic": {"pairs": 40, "centres": 3, "seed": 7},
        "tiles": {"mpp": 0.5, "size_px": 256},
        "encoder": {"name": "texture"},
        "split": KFOLD,
    },
    "crc": {
        "tiles": {"mpp": colon.MPP, "size_px": colon.TILE_PX},
        "encoder": {"name": "texture"},
        "split": KFOLD,
        "evaluation": {"isolated_below_um": 0, "detection_radius_um": 30},
    },
    "lung": {
        "tiles": {"mpp": 0.5, "size_px": 224, "min_tissue_fraction": 0.25},
        "encoder": {"name": "torchvision:squeezenet1_0", "input_px": 224},
        "split": {"kind": "column", "seeds": 5},
        "evaluation": {"isolated_below_um": 0},
    },
}
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


def cohort_config(config: RunConfig, name: str, data: Mapping[str, Path]) -> RunConfig:
    """Write the slides of a cohort (once) and return its configuration, in its own run folder."""
    folder = config.run / name
    values = config.model_dump(mode="json")
    values["run"] = str(folder)
    for block, own in COHORTS[name].items():
        values[block] = {**(values[block] or {}), **own}
    values["split"].pop("seed", None)
    if name == "synthetic":
        return RunConfig(**values)
    mosaics = folder / "mosaics"
    if name == "crc":
        colon.write_mosaics(data["crc"], mosaics)
        shutil.copytree(mosaics / "tissue", folder / "tissue", dirs_exist_ok=True)
    else:
        lung.write_mosaics(data["lung"], mosaics, lung.MosaicSpec())
        values["encoder"]["weights"] = str(data["squeezenet"])
    values["slides"] |= {
        "folder": str(mosaics / "slides"),
        "labels": str(mosaics / "labels.csv"),
        "annotations": str(mosaics / "annotations"),
    }
    return RunConfig(**values)


def dosed(config: RunConfig, values: Mapping[str, float]) -> RunConfig:
    """The same cohort under another dose of the poison, for the methods whose curves are drawn."""
    poison = config.poison.model_copy(update=dict(values))
    return config.model_copy(
        update={"poison": poison, "models": {name: config.models[name] for name in DOSED}}
    )


def main() -> None:
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
        "--cohort", action="append", choices=list(COHORTS), help="one of them only; repeatable"
    )
    parser.add_argument("--doses-on", default="crc", choices=list(COHORTS), help="the cohort of the curves")
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    arguments = parser.parse_intermixed_args()
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    cohorts = arguments.cohort or list(COHORTS)
    data = {"crc": arguments.crc, "lung": arguments.lung, "squeezenet": arguments.squeezenet}
    configs = {name: cohort_config(config, name, data) for name in cohorts}
    for own in configs.values():
        run_stage(own, "tile")
        run_stage(own, "extract")
    clock = time.perf_counter()
    studies: dict[str, PoisonStudy] = {}
    for name, own in configs.items():
        started = time.perf_counter()
        done = run_poison(own)
        studies[name] = done.study
        print(
            f"{name}: {done.trained} trainings, {(time.perf_counter() - started) / 60:.1f} minutes; {done.folder}",
            flush=True,
        )
    doses: dict[str, dict[float, PoisonStudy]] = {"coverage": {}, "strength": {}}
    if arguments.doses_on in configs:
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
    print(method_table(studies) + "\n\n" + ablation_table(studies, ABLATION) + "\n\n" + dose_table(doses))


if __name__ == "__main__":
    main()
