"""Pixel counts against masks counted by hand and scikit-learn."""

import numpy as np
import shapely
from sklearn.metrics import f1_score

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.evaluation.pixel_metrics import pixel_counts, pooled_counts
from wsi_mil.raster import rasterize


def lesion(*box: float) -> Lesion:
    return Lesion("s", "tumour", shapely.MultiPolygon([shapely.box(*box)]))


def test_dice_is_f1_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((13, 21)).astype(np.float32)
    values[2:5, 3:9] = np.nan
    lesions = [lesion(3, 2, 40, 31), lesion(30, 20, 61, 37)]  # they overlap
    truth = rasterize(shapely.union_all([one.geometry for one in lesions]), (13, 21), 4.0, 3.0)
    thresholds = np.array([0.0, 0.3, 0.55, 1.0])
    counts = pixel_counts(values, (4.0, 3.0), lesions, thresholds, pixel_um2=2.5)
    for threshold, dice, called in zip(thresholds, counts.dice(), counts.called, strict=True):
        predicted = np.nan_to_num(values, nan=-1) >= threshold
        assert np.isclose(dice, f1_score(truth.ravel(), predicted.ravel()))
        assert called == predicted.sum() * 2.5
    assert counts.tumour == truth.sum() * 2.5


def test_slides_are_pooled_by_area() -> None:
    thresholds = np.array([0.5])
    one = pixel_counts(np.array([[1.0, 1.0, 0.0]], np.float32), (1, 1), [lesion(0, 0, 1, 1)], thresholds)
    other = pixel_counts(np.array([[1.0, 0.0]], np.float32), (1, 1), [], thresholds)
    assert np.allclose(one.dice(), 2 / 3)
    assert np.allclose(pooled_counts([one, other]).dice(), 2 / (1 + 3))
    empty = pixel_counts(np.zeros((2, 2), np.float32), (1, 1), [], thresholds)
    assert np.isnan(empty.dice()).all()
