"""Values that the suites of several records use."""

import numpy as np
import shapely
from shapely import MultiPolygon

COORDS = np.array([[0, 0], [100, 0], [0, 100]], np.int32)


def box(*corners: float) -> MultiPolygon:
    return MultiPolygon([shapely.box(*corners)])
