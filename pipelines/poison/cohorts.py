"""The cohorts of the poison studies, each with its slides and its settings."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.crc import mosaics as crc_mosaics
from pipelines.lung import slides as lung_slides
from pipelines.lung.spec import MosaicSpec
from wsi_mil.config import RunConfig

KFOLD = {"kind": "kfold", "folds": 5, "val_share": 0.2}
COHORTS: dict[str, dict[str, dict[str, Any]]] = {
    "synthetic": {
        "synthetic": {"pairs": 40, "centres": 3, "seed": 7},
        "tiles": {"mpp": 0.5, "size_px": 256},
        "encoder": {"name": "texture"},
        "split": KFOLD,
    },
    "crc": {
        "tiles": {"mpp": crc_mosaics.MPP, "size_px": crc_mosaics.TILE_PX},
        "encoder": {"name": "texture"},
        "split": KFOLD,
        "evaluation": {"isolated_below_um": 0, "detection_radius_um": 30},
    },
    "lung": {
        "tiles": {"mpp": 0.5, "size_px": 224, "min_tissue_fraction": 0.25},
        "encoder": {
            "name": "torchvision:squeezenet1_0",
            "input_px": 224,
            "precision": "fp32",
            "backend": "torch",
        },
        "split": {"kind": "column", "seeds": 5},
        "evaluation": {"isolated_below_um": 0},
    },
    "demo": {
        "synthetic": {"pairs": 16, "centres": 3, "seed": 7},
        "tissue": {"method": "otsu"},
        "tiles": {"mpp": 0.5, "size_px": 128},
        "encoder": {"name": "texture"},
        "split": KFOLD,
    },
}
"""Cohort -> settings, by block of the configuration, that differ from the study's configuration. "demo" is
small, and `poison_stain.py` takes it only when it is asked to.
"""


def cohort_config(config: RunConfig, name: str, data: Mapping[str, Path]) -> RunConfig:
    """Write the slides of a cohort, unless they exist, and return its configuration with its own run folder.

    data: the files "crc", "lung" and "squeezenet", as far as the cohort needs them.
    """
    folder = config.run / name
    values = config.model_dump(mode="json")
    values["run"] = str(folder)
    for block, own in COHORTS[name].items():
        values[block] = {**(values[block] or {}), **own}
    values["split"].pop("seed", None)
    if "synthetic" in COHORTS[name]:
        return RunConfig(**values)
    mosaics = folder / "mosaics"
    if name == "crc":
        crc_mosaics.write_mosaics(data["crc"], mosaics)
        shutil.copytree(mosaics / "tissue", folder / "tissue", dirs_exist_ok=True)
    else:
        lung_slides.write_mosaics(data["lung"], mosaics, MosaicSpec())
        values["encoder"]["weights"] = str(data["squeezenet"])
    values["slides"] |= {
        "folder": str(mosaics / "slides"),
        "labels": str(mosaics / "labels.csv"),
        "annotations": str(mosaics / "annotations"),
    }
    return RunConfig(**values)
