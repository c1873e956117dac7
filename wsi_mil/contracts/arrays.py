"""Names for the arrays of the house. Arrays are indexed [row = y, column = x]."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

RGB: TypeAlias = NDArray[np.uint8]  # (height, width, 3)
Mask: TypeAlias = NDArray[np.bool_]  # (height, width)
Float: TypeAlias = NDArray[np.floating]
