"""Division of whole centres into parts of a split, with balanced labels: preserved-site splits.

Source: Howard et al., The impact of site-specific digital histology signatures on deep learning model
accuracy and bias, Nature Communications 12:4423, 2021. They minimise squares with a quadratic programme; here
absolute deviations are minimised, so that an integer linear programme does.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError

CLOSE_ENOUGH = 0.02
"""Deviations up to this fraction of a class (or half a slide) count as none. Without it the optimiser would
search for the last slide among very many equal divisions."""
NODES = 20_000
"""How many nodes the optimiser searches; a limit of time would give other folds on a slower machine."""


def site_blocks(rows: Sequence[SlideLabel]) -> list[list[int]]:
    """Return the numbers of the rows of each block: a centre, with all centres that share a patient with it.

    Blocks are in the order of their first centre's name. Raises DataError for a slide without a centre.

    >>> rows = [SlideLabel("s1", 0, "p", "b"), SlideLabel("s2", 1, "q", "a"), SlideLabel("s3", 1, "p", "c")]
    >>> site_blocks(rows)
    [[1], [0, 2]]
    """
    without = [row.slide_id for row in rows if not row.centre]
    if without:
        raise DataError(
            f"split.kind=preserved_site: slide {without[0]!r} has no centre ({len(without)} of {len(rows)} "
            "slides): fill the labels' centre column, or name it with slides.columns.centre=COLUMN"
        )
    block_of = {centre: centre for centre in sorted({row.centre for row in rows})}
    first: dict[str, str] = {}  # patient -> a centre
    for row in rows:
        one, other = block_of[first.setdefault(row.patient, row.centre)], block_of[row.centre]
        low = min(one, other)
        block_of = {centre: low if block in (one, other) else block for centre, block in block_of.items()}
    blocks: dict[str, list[int]] = {name: [] for name in sorted(set(block_of.values()))}
    for number, row in enumerate(rows):
        blocks[block_of[row.centre]].append(number)
    return list(blocks.values())


def divide_blocks(
    counts: NDArray[np.integer], shares: Sequence[float], rng: np.random.Generator
) -> NDArray[np.intp] | None:
    """Return the part (B,) of each of B blocks; None if no division gives every part each class.

    counts (B, C): slides of each class. shares (P,): the fraction of the slides of each part, with sum 1. The
    sum over parts p and classes c of |slides of c in p / slides of c - fraction of p| is minimal, except that
    deviations below `CLOSE_ENOUGH` count as none. Among equal divisions the order of the blocks decides; it
    is drawn with `rng`.

    >>> counts = np.array([[10, 0], [0, 10], [6, 4], [4, 6]])
    >>> divide_blocks(counts, [0.5, 0.5], np.random.default_rng(0)) is not None
    True
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    order = rng.permutation(len(counts))
    blocks, parts, classes = len(counts), len(shares), counts.shape[1]
    fractions = (counts / counts.sum(0))[order]
    taken, deviations = blocks * parts, parts * classes
    each = np.zeros((blocks, taken + deviations))  # every block in one part
    above, below, present = (np.zeros((deviations, taken + deviations)) for _ in range(3))
    for block in range(blocks):
        each[block, block * parts : (block + 1) * parts] = 1
    for part in range(parts):
        for kind in range(classes):
            row, at = part * classes + kind, np.arange(blocks) * parts + part
            above[row, at] = below[row, at] = fractions[:, kind]
            present[row, at] = counts[order, kind] > 0
            above[row, taken + row], below[row, taken + row] = -1, 1
    wanted = np.repeat(np.asarray(shares), classes)
    slack = np.tile(np.maximum(CLOSE_ENOUGH, 0.5 / counts.sum(0)), parts)
    upper = np.r_[np.ones(taken), np.full(deviations, np.inf)]
    if len(set(shares)) == 1:  # parts are alike: the first block is in the first part, and so on
        for block in range(min(blocks, parts)):
            upper[block * parts + block + 1 : (block + 1) * parts] = 0
    found = milp(
        np.r_[np.zeros(taken), np.ones(deviations)],
        integrality=np.r_[np.ones(taken), np.zeros(deviations)],
        bounds=Bounds(0, upper),
        constraints=[
            LinearConstraint(each, 1, 1),
            LinearConstraint(above, -np.inf, wanted + slack),
            LinearConstraint(below, wanted - slack, np.inf),
            LinearConstraint(present, 1, np.inf),
        ],
        options={"node_limit": NODES},
    )
    if found.x is None:
        return None
    part_of = np.empty(blocks, np.intp)
    part_of[order] = found.x[:taken].reshape(blocks, parts).argmax(1)
    return part_of


def site_folds(
    rows: Sequence[SlideLabel], folds: int, val_share: float, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """Return the rows of training, validation and test of each fold; no centre is in two parts of a fold.

    Each block of centres is in the test of one fold. Of the other blocks of a fold, about `val_share` of each
    class are its validation. Raises DataError if there are too few blocks, or if a part would lack a class.
    """
    blocks = site_blocks(rows)
    names = sorted({row.label for row in rows}, key=str)
    counts = np.array([[sum(rows[i].label == name for i in block) for name in names] for block in blocks])
    least = max(folds, 3)
    if len(blocks) < least:
        centres = len({row.centre for row in rows})
        merged = (
            f" ({centres} before those that share patients are put together)" if centres > len(blocks) else ""
        )
        lower = f" or lower split.folds to {len(blocks)}" if len(blocks) >= 3 else ""
        raise DataError(
            f"split.kind=preserved_site: {len(blocks)} centres{merged} are too few for {folds} folds with "
            f"training, validation and test: add {least - len(blocks)}{lower}"
        )
    rng = np.random.default_rng(seed)
    part_of = divide_blocks(counts, [1 / folds] * folds, rng)
    if part_of is None:
        raise DataError(_no_division(counts, f"{folds} folds", "lower split.folds"))
    found = []
    for fold in range(folds):
        rest = np.flatnonzero(part_of != fold)
        halves = divide_blocks(counts[rest], [1 - val_share, val_share], rng)
        if halves is None:
            raise DataError(
                _no_division(
                    counts[rest], f"training and validation of fold {fold}", "use another split.seed"
                )
            )
        parts = [rest[halves == 0], rest[halves == 1], np.flatnonzero(part_of == fold)]
        train, val, test = (
            np.sort(np.concatenate([blocks[b] for b in part])).astype(np.intp) for part in parts
        )
        found.append((train, val, test))
    return found


def _no_division(counts: NDArray[np.integer], what: str, remedy: str) -> str:
    rarest = int((counts > 0).sum(0).min())
    return (
        f"split.kind=preserved_site: no division of {len(counts)} centres into {what} gives every part each "
        f"class; one class occurs in {rarest} centres only: {remedy}, or use split.kind=kfold"
    )
