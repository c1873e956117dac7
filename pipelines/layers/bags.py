"""Bags of the halves: the half that chose the layers trains and validates, the other half tests."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from pipelines.layers.features import Features
from pipelines.layers.sets import Labels, Lung, Nuclei, class_numbers, halves
from wsi_mil.contracts.bags import Bag

Parts = dict[str, list[Bag]]
VALIDATION = 0.25
"""Fraction of the first half."""


@dataclass(frozen=True)
class Drawn:
    """A bag without features: the rows of its instances, their labels, and where its features lie."""

    name: str
    features: str
    rows: Labels
    marks: Labels


@dataclass(frozen=True)
class LungForm:
    """The hard form of the lung mosaics as bags, made smaller: a bag's tiles, and its tumour tiles."""

    tiles: int = 120
    tumour: tuple[int, int] = (1, 2)
    slides: tuple[tuple[str, int], ...] = (("train", 36), ("val", 18), ("test", 40))


def colon_bags(nuclei: Nuclei, seed: int) -> dict[str, list[Drawn]]:
    """Return a bag of each patient; it is positive if one of its nuclei is cancerous."""
    first = halves(nuclei.patient, nuclei.cancerous, seed)
    found: dict[str, list[Drawn]] = {"train": [], "val": [], "test": []}
    parts = _first_half_parts(nuclei.patient, nuclei.cancerous, first, seed)
    for patient in np.unique(nuclei.patient):
        rows = np.flatnonzero(nuclei.patient == patient)
        part = str(parts[rows[0]])
        found[part].append(Drawn(f"patient_{int(patient):03d}", "colon", rows, nuclei.cancerous[rows]))
    return found


def lung_bags(lung: Lung, form: LungForm, centres: Mapping[str, str], seed: int) -> dict[str, list[Drawn]]:
    """Return bags of normal images with few of one carcinoma in every second one.

    centres: part -> the features of its laboratory. A group of near-duplicates is in one part only.
    """
    rng, kinds = np.random.default_rng(seed), class_numbers(lung)
    parts = _first_half_parts(lung.group, kinds, halves(lung.group, kinds, seed), seed)
    return {
        part: [
            _lung_bag(f"{part}_{number:03d}", centres[part], kinds, parts == part, form, number % 2, rng)
            for number in range(count)
        ]
        for part, count in form.slides
    }


def _lung_bag(
    name: str,
    features: str,
    kinds: Labels,
    allowed: NDArray[np.bool_],
    form: LungForm,
    label: int,
    rng: Generator,
) -> Drawn:
    tumour = int(rng.integers(form.tumour[0], form.tumour[1] + 1)) * label
    carcinoma = int(rng.integers(1, 3))
    pools = [rng.permutation(np.flatnonzero(allowed & (kinds == kind))) for kind in (carcinoma, 0)]
    rows = [np.resize(pool, count) for pool, count in zip(pools, (tumour, form.tiles - tumour), strict=True)]
    marks = np.repeat([1, 0], [tumour, form.tiles - tumour])
    return Drawn(name, features, np.concatenate(rows), marks)


def _first_half_parts(
    groups: NDArray[np.generic], labels: Labels, first: NDArray[np.bool_], seed: int
) -> NDArray[np.str_]:
    """Return the part (N,) of each row: whole groups of the first half train or validate, others test."""
    parts = np.where(first, "train", "test").astype("U5")
    names = np.unique(groups[first])
    label = [int(labels[groups == name].max()) for name in names]
    _, chosen = train_test_split(names, test_size=VALIDATION, stratify=label, random_state=seed)
    parts[np.isin(groups, chosen)] = "val"
    return parts


def filled(
    drawn: Mapping[str, list[Drawn]], store: Mapping[str, Features], columns: NDArray[np.int64]
) -> Parts:
    """Return the bags with some columns of the features; store: name -> features of all layers."""
    return {
        part: [
            Bag(
                bag.name,
                torch.from_numpy(np.asarray(store[bag.features][bag.rows])[:, columns]),
                int(bag.marks.max()),
                instance_labels=torch.from_numpy(bag.marks.astype(np.int64)),
            )
            for bag in bags
        ]
        for part, bags in drawn.items()
    }
