"""The real images of lung tissue, divided into training, validation and test images."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.random import Generator

from pipelines.lung.spec import CARCINOMAS, NORMAL
from wsi_mil.errors import DataError
from wsi_mil.io.tables import parse_csv

POOLS = {"train": 0.5, "val": 0.15, "test": 0.35}
"""Fractions of the groups of near-duplicates."""

Pool = dict[str, list[str]]
"""Class -> names of images in the archive."""


def read_pools(archive: Path, rng: Generator) -> dict[str, Pool]:
    """Return part -> class -> names of images. A group of near-duplicates is in one part only.

    archive: lung_he.zip, with images and index.csv (file, class, group). Raises DataError for any other file.
    """
    try:
        with zipfile.ZipFile(archive) as files:
            rows = parse_csv(files.read("index.csv").decode(), archive)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{archive} is no lung_he.zip (images and index.csv with file,class,group): {error}"
        ) from error
    pools: dict[str, Pool] = {part: {} for part in POOLS}
    for name in (NORMAL, *CARCINOMAS):
        groups = rng.permutation(sorted({row["group"] for row in rows if row["class"] == name}))
        cuts = np.rint(np.cumsum(list(POOLS.values())) * len(groups)).astype(int)
        for part, chosen in zip(POOLS, np.split(groups, cuts[:-1]), strict=True):
            members = set(chosen.tolist())
            pools[part][name] = [
                row["file"] for row in rows if row["class"] == name and row["group"] in members
            ]
    return pools
