"""Random generators that are independent of each other because they have different names."""

import zlib

import numpy as np


def named_generator(seed: int, *names: str) -> np.random.Generator:
    """Return the generator of `names` under `seed`: equal names give equal numbers, different names
    independent ones.

    A slide, or a metric, that is added to a run therefore changes the numbers of no other.

    >>> a, b = named_generator(1, "slide_001"), named_generator(1, "slide_001")
    >>> bool(a.random() == b.random() != named_generator(1, "slide_002").random())
    True
    """
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])
