"""Splits by patient, stratified by label, saved with a digest that thresholds and models refer to."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from wsi_mil.bags.sites import site_folds
from wsi_mil.contracts.labels import SlideLabel, Target
from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.io.files import digest_json
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.seals import DamagedFileError, require_digest
from wsi_mil.logs import logger
from wsi_mil.tasks import Detection, Task
from wsi_mil.tasks.classes import ClassTask

PARTS = ("train", "val", "test")
SEED_STEP = 10_000
ATTEMPTS = 200
"""How often a part is drawn until it has every class."""


class SplitSpec(Spec):
    """holdout: one split with a test and a validation share; kfold: `folds` tests that cover everyone,
    validation taken out of the rest; column: the labels' `split` column says train, val or test; centre: the
    slides of `test_centres` are the test (Camelyon17: centres 3 and 4). Where a column names no val slide,
    and for centres, validation is drawn out of the training slides. preserved_site: `folds` tests of whole
    centres, validation of whole other centres, labels balanced by an optimiser (Howard et al. 2021).
    `repeats`: so many times, drawn anew (holdout: repeated hold-out);
    `seeds`: every fold is trained so many times from other weights."""

    kind: Literal["holdout", "kfold", "column", "centre", "preserved_site"] = "holdout"
    test_centres: tuple[str, ...] = Field(
        default=(), description="values of the labels' centre column, for kind=centre"
    )
    folds: int = Field(default=5, ge=2)
    test_share: float = Field(default=0.3, gt=0, lt=1)
    val_share: float = Field(default=0.2, gt=0, lt=1, description="of what is not test")
    repeats: int = Field(default=1, ge=1)
    seeds: int = Field(default=1, ge=1)
    seed: int = 0


@dataclass(frozen=True)
class Fold:
    """Slide ids of one fold; no patient is in two parts.

    repeat, seed_number: number of the drawing and of the initial weights.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    repeat: int = 0
    seed_number: int = 0

    def digest(self, part: str) -> str:
        """Return the digest of the slides of one part: what a threshold is stored with."""
        return digest_json([part, list(getattr(self, part))])


@dataclass(frozen=True)
class Split:
    """All folds and the specification that made them."""

    spec: SplitSpec
    folds: tuple[Fold, ...]

    def digest(self) -> str:
        return digest_json([[list(getattr(fold, part)) for part in PARTS] for fold in self.folds])

    @property
    def first_round(self) -> tuple[Fold, ...]:
        """The folds of the first repeat and seed: with k folds they test every slide once."""
        return tuple(fold for fold in self.folds if fold.repeat == fold.seed_number == 0)

    def save(self, path: Path) -> None:
        value = {
            "kind": "split",
            "format_version": 1,
            "spec": self.spec.model_dump(),
            "digest": self.digest(),
            "folds": [asdict(fold) for fold in self.folds],
        }
        write_json(path, value)

    @classmethod
    def load(cls, path: Path) -> "Split":
        """Return a saved split; raises DamagedFileError if its digest does not match (edited by hand)."""
        remedy = "remove it and run `wsi-mil train`, or use split.kind=column for a split of yours"
        value = read_json(path, remedy)
        try:
            folds = tuple(
                Fold(
                    tuple(fold["train"]),
                    tuple(fold["val"]),
                    tuple(fold["test"]),
                    fold.get("repeat", 0),
                    fold.get("seed_number", 0),
                )
                for fold in value["folds"]
            )
            split = cls(SplitSpec(**value["spec"]), folds)
            require_digest(path, value["digest"], split.digest(), remedy)
        except DamagedFileError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise DamagedFileError(path, what, remedy) from error
        return split


def make_split(labels: Sequence[SlideLabel], spec: SplitSpec, task: Task | None = None) -> Split:
    """Return the folds for labelled slides. Same labels and seed, same folds, whatever the order of the rows.

    Raises DataError if there is one class only, or too few patients of a class for the asked parts.
    """
    task = task or Detection()
    rows = sorted((row for row in labels if row.target is not None), key=lambda row: row.slide_id)
    if not isinstance(task, ClassTask):
        if lacking := task.lacking(_targets(rows)):
            raise DataError(f"the table of {len(rows)} labelled slides {lacking}: there is nothing to learn")
        # the stratum stands where the class of a slide does
        strata = task.strata(_targets(rows))
        rows = [replace(row, label=stratum) for row, stratum in zip(rows, strata, strict=True)]
    classes = Counter(row.label for row in rows)
    if len(classes) < 2:
        raise DataError(
            f"all {len(rows)} labelled slides are of one class ({next(iter(classes), 'none')}): training "
            "needs at least two"
        )
    if spec.kind == "column" and spec.repeats > 1 and any(_part(row) == "val" for row in rows):
        raise ConfigError(
            "split.repeats: the split column says one split; use split.seeds to train it several times"
        )
    if spec.kind in ("holdout", "kfold"):
        _require_patients(rows, spec, task)
    draw = {"column": _from_column, "centre": _from_centres, "preserved_site": _whole_sites}.get(
        spec.kind, _drawn
    )
    folds = []
    for repeat in range(spec.repeats):
        folds += [replace(fold, repeat=repeat) for fold in draw(rows, spec, spec.seed + SEED_STEP * repeat)]
    for number, fold in enumerate(folds):
        _check(fold, rows, number)
    return Split(spec, tuple(replace(fold, seed_number=n) for n in range(spec.seeds) for fold in folds))


def _targets(rows: Sequence[SlideLabel]) -> list[Target]:
    return [row.target for row in rows if row.target is not None]


def _drawn(rows: Sequence[SlideLabel], spec: SplitSpec, seed: int) -> list[Fold]:
    everything = np.arange(len(rows))
    if spec.kind == "kfold":
        tests = _grouped_parts(rows, everything, spec.folds, seed)
    else:
        tests = [draw_share(rows, everything, spec.test_share, seed, left=2)]
    return [_with_validation(rows, np.setdiff1d(everything, test), test, spec, seed) for test in tests]


def _require_patients(rows: Sequence[SlideLabel], spec: SplitSpec, task: Task) -> None:
    """Raise DataError unless each class has a patient for each part, or for each fold."""
    least = max(spec.folds, 3) if spec.kind == "kfold" else 3
    patients = {
        label: len({r.patient for r in rows if r.label == label}) for label in {r.label for r in rows}
    }
    label, fewest = min(patients.items(), key=lambda pair: pair[1])
    if fewest < least:
        what = f"class {task.text(label or 0)}" if isinstance(task, ClassTask) else f"stratum {label}"
        for_what = f"{spec.folds} folds" if spec.kind == "kfold" else "training, validation and test"
        lower = f", or lower split.folds to {fewest}" if spec.kind == "kfold" and fewest >= 3 else ""
        raise DataError(
            f"{what} has {fewest} patients, too few for {for_what}: at least {least} patients of each class "
            f"are needed, so add {least - fewest}{lower}"
        )


def _fold(rows: Sequence[SlideLabel], train: np.ndarray, val: np.ndarray, test: np.ndarray) -> Fold:
    ids = [tuple(rows[i].slide_id for i in part) for part in (train, val, test)]
    return Fold(ids[0], ids[1], ids[2])


def _with_validation(
    rows: Sequence[SlideLabel], rest: np.ndarray, test: np.ndarray, spec: SplitSpec, seed: int
) -> Fold:
    """Draw validation out of the rows `rest`."""
    val = draw_share(rows, rest, spec.val_share, seed + 1, left=1)
    train = np.setdiff1d(rest, val)
    return _fold(rows, train, val, test)


def draw_share(
    rows: Sequence[SlideLabel], which: np.ndarray, share: float, seed: int, left: int
) -> np.ndarray:
    """Return those of the rows `which` that are drawn, sorted: `share` of their patients, to within one.

    Classes are in the proportion of the table, and each is drawn at least once. Of each class, at least
    `left` patients are left. Where so small a part cannot have every class, more patients are drawn, which is
    reported. Raises DataError, with the number of patients that would do, if no part can be drawn.
    """
    labels = {i: rows[i].label for i in which}
    patients: dict[str, list[int]] = {}
    for i in which:
        patients.setdefault(rows[i].patient, []).append(int(i))
    wanted = min(max(share * len(patients), 1), len(patients) - 1)

    def fits(drawn: set[str]) -> bool:
        taken = Counter(c for name in drawn for c in {labels[i] for i in patients[name]})
        kept = Counter(c for name in patients.keys() - drawn for c in {labels[i] for i in patients[name]})
        return all(taken[c] >= 1 and kept[c] >= left for c in set(labels.values()))

    def rows_of(drawn: set[str]) -> np.ndarray:
        return np.sort(np.array([i for name in drawn for i in patients[name]], int))

    parts = max(round(1 / share), 2)
    strata = _strata(patients, labels)
    if min(len(names) for names in strata.values()) >= parts:
        part = _grouped_parts(rows, which, parts, seed)[0]
        drawn = {rows[i].patient for i in part}
        if abs(len(drawn) - wanted) < 1 and fits(drawn):
            return part
    rng, classes = np.random.default_rng(seed), len(set(labels.values()))
    within_one = [round(wanted), int(wanted), int(wanted) + 1, math.ceil(wanted) - 1]
    for count in dict.fromkeys([*within_one, *range(int(wanted) + 2, classes + 1)]):
        for _ in range(ATTEMPTS if 0 < count < len(patients) else 0):
            drawn = _draw_patients(strata, count, rng)
            if fits(drawn):
                if count > wanted + 1:
                    logger().warning(
                        "split: a part of %g of %d patients has %d, so that it has every class",
                        share,
                        len(patients),
                        count,
                    )
                return rows_of(drawn)
    needed = max(math.ceil((left * classes - 1) / (1 - share)), len(patients) + 1)
    raise DataError(
        f"no part of {share:g} of {len(patients)} patients has each of the {classes} classes and leaves "
        f"{left} patients of each: choose a share nearer to 0.3, or add patients of the rarest class "
        f"(with equally frequent classes at least {needed} patients are needed)"
    )


def _strata(
    patients: Mapping[str, Sequence[int]], labels: Mapping[int, int | None]
) -> dict[tuple[str, ...], list[str]]:
    """Return the patients by the classes that their slides have."""
    strata: dict[tuple[str, ...], list[str]] = {}
    for name, members in sorted(patients.items()):
        strata.setdefault(tuple(sorted({str(labels[i]) for i in members})), []).append(name)
    return strata


def _draw_patients(
    strata: Mapping[tuple[str, ...], Sequence[str]], count: int, rng: np.random.Generator
) -> set[str]:
    """Return `count` patients, of each stratum in its proportion by largest remainders."""
    total = sum(map(len, strata.values()))
    exact = {key: count * len(names) / total for key, names in strata.items()}
    numbers = {key: int(value) for key, value in exact.items()}
    order = sorted(strata, key=lambda key: (numbers[key] - exact[key], rng.random()))
    for key in order[: count - sum(numbers.values())]:
        numbers[key] += 1
    return {
        str(name)
        for key, names in strata.items()
        for name in rng.choice(np.array(names, object), numbers[key], replace=False)
    }


def _grouped_parts(rows: Sequence[SlideLabel], which: np.ndarray, parts: int, seed: int) -> list[np.ndarray]:
    """Divide the rows `which` into `parts`, stratified by label, patients kept together; each part sorted."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = [rows[i].label for i in which]
    groups = [rows[i].patient for i in which]
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    return [np.sort(which[test]) for _, test in splitter.split(which, labels, groups)]


PART_NAMES = {part: part for part in PARTS} | {
    "validation": "val",
    "tune": "val",
    "training": "train",
    "testing": "test",
}


def _part(row: SlideLabel) -> str:
    part = PART_NAMES.get(row.split.lower())
    if part is None:
        raise DataError(
            f"slide {row.slide_id!r}: split column says {row.split!r}, expected train, val or test"
        )
    return part


def _from_column(rows: Sequence[SlideLabel], spec: SplitSpec, seed: int) -> list[Fold]:
    parts = {part: np.array([i for i, row in enumerate(rows) if _part(row) == part], int) for part in PARTS}
    if not len(parts["val"]):
        return [_with_validation(rows, parts["train"], parts["test"], spec, seed)]
    return [_fold(rows, parts["train"], parts["val"], parts["test"])]


def _from_centres(rows: Sequence[SlideLabel], spec: SplitSpec, seed: int) -> list[Fold]:
    """The slides of `test_centres` are the test; no slide of theirs is trained on or chooses anything."""
    known = sorted({row.centre for row in rows})
    if unknown := [centre for centre in spec.test_centres if centre not in known]:
        raise ConfigError(
            f"split.test_centres: no slide of centre {unknown[0]!r}; the labels' centre column has {known}"
        )
    if not spec.test_centres or set(known) <= set(spec.test_centres):
        raise ConfigError(f"split.test_centres: name some of the centres {known}, and leave some to train on")
    held = np.array([row.centre in spec.test_centres for row in rows])
    return [_with_validation(rows, np.flatnonzero(~held), np.flatnonzero(held), spec, seed)]


def _whole_sites(rows: Sequence[SlideLabel], spec: SplitSpec, seed: int) -> list[Fold]:
    """Folds in which no centre is in two parts."""
    return [_fold(rows, *parts) for parts in site_folds(rows, spec.folds, spec.val_share, seed)]


def _check(fold: Fold, rows: Sequence[SlideLabel], number: int) -> None:
    by_id = {row.slide_id: row for row in rows}
    seen: dict[str, str] = {}
    for part in PARTS:
        members = [by_id[slide_id] for slide_id in getattr(fold, part)]
        if len({row.label for row in members}) < 2:
            raise DataError(
                f"fold {number}: part {part!r} of {len(members)} slides lacks a class; use another "
                "split.seed, larger shares, fewer folds, or more slides"
            )
        for row in members:
            if seen.setdefault(row.patient, part) != part:
                raise DataError(
                    f"fold {number}: patient {row.patient!r} is in {seen[row.patient]!r} and in {part!r}"
                )
