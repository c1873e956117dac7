"""How many damaged inputs the tests of the three boundaries try, and their figures.

The boundaries are slides, annotations and labels. WSI_MIL_DAMAGED_FILES=20000 tries so many in total instead
of the default 3,000; `pytest -s` shows the figures (docs/testing.md).
"""

import math
import os
from collections import Counter
from collections.abc import Iterable

TOTAL = int(os.environ.get("WSI_MIL_DAMAGED_FILES", "3000"))
FRACTIONS = {"slides": 0.45, "annotations": 0.45, "labels": 0.1}


def inputs(boundary: str, kinds: int) -> int:
    """Return how many damaged inputs of each kind of a boundary are tried."""
    return math.ceil(TOTAL * FRACTIONS[boundary] / kinds)


def show(boundary: str, kind: str, outcomes: Iterable[str]) -> None:
    """Print how many inputs of a kind were read and refused."""
    counts = Counter(outcomes)
    print(
        f"\n{boundary}, {kind}: {counts.total()} inputs, " + ", ".join(f"{n} {o}" for o, n in counts.items())
    )
