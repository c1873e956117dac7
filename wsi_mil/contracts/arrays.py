"""Names for arrays of the package. Images are indexed [row, column], that is [y, x]."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

RGB: TypeAlias = NDArray[np.uint8]  # (height, width, 3)
Mask: TypeAlias = NDArray[np.bool_]  # (height, width)
Float: TypeAlias = NDArray[np.floating]
