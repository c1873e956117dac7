"""How the studies on images show a mean over seeds."""

import math
import statistics
from collections.abc import Sequence

from scipy import stats


def interval(values: Sequence[float]) -> str:
    """Return the mean and half of its 95 % interval over seeds by Student's t; of one value the value alone.

    >>> interval([0.5, 0.6, 0.8])
    '0.633 ± 0.379'
    >>> interval([0.5])
    '0.500'
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3f} ± {half:.3f}"
