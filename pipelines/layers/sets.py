"""The images of the study: nuclei of the colon by patient, lung tissue by group of near-duplicates."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.lung.slides import draw_centres
from pipelines.lung.spec import CARCINOMAS, IMAGE_PX, NORMAL, Centre, MosaicSpec
from wsi_mil.io.tables import parse_csv

Labels = NDArray[np.int64]
EPITHELIAL = 2
PATCHES_OF_A_PATIENT, IMAGES_OF_A_GROUP = 40, 2
NUCLEUS_INPUT_PX, LUNG_INPUT_PX = 96, IMAGE_PX // 2
PLAIN = Centre("plain", (1.0, 1.0, 1.0), 0.0)
STAIN_JITTER = 0.2
"""Standard deviation of the log stain gains: of a group in the changed stain, of a laboratory in the bags."""


@dataclass(frozen=True)
class Nuclei:
    """Patches (N, 27, 27, 3): patient of each, whether it is cancerous, and its cell type (-1: unknown)."""

    images: NDArray[np.uint8]
    patient: Labels
    cancerous: Labels
    cell_type: Labels


@dataclass(frozen=True)
class Lung:
    """Names of the images, their classes, and their groups (of one class each), all (N,)."""

    files: tuple[str, ...]
    kind: NDArray[np.str_]
    group: NDArray[np.str_]

    def seen_by(self, centre: Centre) -> list[tuple[str, Centre]]:
        """Return what `pipelines.layers.features.lung_tiles` reads: every image in one laboratory."""
        return [(file, centre) for file in self.files]

    def stained_by_group(self) -> list[tuple[str, Centre]]:
        """Return every image with a changed stain that its group has, without defocus."""
        rng = np.random.default_rng(0)
        gains = {g: np.exp(rng.normal(0, STAIN_JITTER, 3)) for g in sorted(set(self.group.tolist()))}
        looks = {g: Centre("changed", (v[0], v[1], v[2]), 0.0) for g, v in gains.items()}
        return [(file, looks[group]) for file, group in zip(self.files, self.group.tolist(), strict=True)]

    def only(self, kinds: Sequence[str]) -> "Lung":
        """Return the images of some classes."""
        rows = np.flatnonzero(np.isin(self.kind, kinds))
        return Lung(tuple(self.files[row] for row in rows), self.kind[rows], self.group[rows])


def read_nuclei(data: Path) -> Nuclei:
    """Return the patches of crchisto27.npz, at most PATCHES_OF_A_PATIENT of each patient."""
    with np.load(data, allow_pickle=False) as found:
        rows = few_of_each(found["patient"], PATCHES_OF_A_PATIENT)
        columns = (found[key][rows].astype(np.int64) for key in ("patient", "cancerous", "cell_type"))
        return Nuclei(found["images"][rows], *columns)


def read_lung(archive: Path) -> Lung:
    """Return the images of lung_he.zip, at most IMAGES_OF_A_GROUP of each group of near-duplicates."""
    with zipfile.ZipFile(archive) as files:
        rows = parse_csv(files.read("index.csv").decode(), archive)
    groups = np.array([f"{row['class']}/{row['group']}" for row in rows])
    kept = few_of_each(groups, IMAGES_OF_A_GROUP)
    names, kinds = (np.array([row[key] for row in rows])[kept] for key in ("file", "class"))
    return Lung(tuple(names.tolist()), kinds, groups[kept])


def few_of_each(groups: NDArray[np.generic], most: int) -> Labels:
    """Return the rows of at most `most` random members of each group, in their order."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(groups == group))[:most] for group in np.unique(groups)]
    return np.sort(np.concatenate(rows))


def laboratories() -> list[Centre]:
    """Return two laboratories: one for training and validation bags, one for test bags."""
    spec = MosaicSpec(centres=2, centre_jitter=STAIN_JITTER, blur_px=(0.0, 2.0))
    return draw_centres(spec, np.random.default_rng(0))


def halves(groups: Sequence[object] | NDArray[np.generic], labels: Labels, seed: int) -> NDArray[np.bool_]:
    """Return which rows (N,) are in the first half: whole groups, half of those of each label.

    The label of a group is the largest of its rows. Of an odd number the first half has one less. The groups
    of a label are divided in the same way whatever other labels there are.
    """
    names, group_of_row = np.unique(np.asarray(groups), return_inverse=True)
    label = np.full(len(names), labels.min())
    np.maximum.at(label, group_of_row, labels)
    first = np.zeros(len(names), np.bool_)
    for value in np.unique(label):
        own = np.random.default_rng([seed, int(value)]).permutation(np.flatnonzero(label == value))
        first[own[: len(own) // 2]] = True
    return np.asarray(first[group_of_row], np.bool_)


def class_numbers(lung: Lung) -> Labels:
    """Return 0 for normal tissue, 1 for adenocarcinoma, 2 for squamous-cell carcinoma."""
    return np.array([(NORMAL, *CARCINOMAS).index(kind) for kind in lung.kind.tolist()])
