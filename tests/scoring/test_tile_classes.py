"""Class probabilities of single tiles: what they are for every method, in files, and when they are needed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.scoring.test_predictions import FEATURES, TABLE, model
from wsi_mil.aggregators import AGGREGATORS
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.errors import DataError
from wsi_mil.scoring import Threshold, read_tile_scores, score_features
from wsi_mil.scoring.files import tile_scores_header, write_tile_scores
from wsi_mil.tasks import Detection
from wsi_mil.tasks.kinds.classification import Classification
from wsi_mil.tasks.kinds.regression import Regression

SUBTYPES = Classification(("luad", "lusc", "other"))


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_a_tile_has_the_probabilities_of_a_slide_that_is_this_tile(aggregator: str) -> None:
    one = model(SUBTYPES, aggregator)
    found = score_features(one, TABLE)
    assert found.class_names == ("luad", "lusc", "other")
    assert found.tile_class_probabilities is not None
    assert found.tile_class_probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    for row in (0, 4, 8):
        alone = Bag("s", torch.from_numpy(FEATURES[[row]]).float(), 0)
        with torch.inference_mode():
            logits = one.aggregator(PackedBags.pack([alone])).bag_logits.double()
        expected = torch.softmax(logits, 1)[0].numpy()
        assert found.tile_class_probabilities[row] == pytest.approx(expected, abs=1e-5)
        assert found.class_scores("lusc")[row] == found.tile_class_probabilities[row, 1]


def test_max_pooling_shows_its_instance_classifier() -> None:
    """The instance classifier is asked, not the bag."""
    one = model(SUBTYPES, "mi_net")
    with torch.inference_mode():
        logits = one.aggregator(PackedBags.pack([Bag("s", torch.from_numpy(FEATURES).float(), 0)]))
    found = score_features(one, TABLE)
    instance = logits.extras["instance_logits"].double()
    assert found.tile_class_probabilities == pytest.approx(torch.softmax(instance, 1).numpy(), abs=1e-5)


def test_three_classes_of_detection_have_them_and_two_have_not() -> None:
    three = model(Detection(("normal", "a", "b")), threshold=Threshold(0.5, "youden", "val", "x"))
    assert score_features(three, TABLE).class_names == ("normal", "a", "b")
    two = model(Detection(("normal", "a")), threshold=Threshold(0.5, "youden", "val", "x"))
    found = score_features(two, TABLE)
    assert (found.class_names, found.tile_class_probabilities) == ((), None)
    with pytest.raises(DataError, match="run `wsi-mil score` again"):
        found.class_scores("a")
    assert score_features(model(Regression()), TABLE).class_names == ()


def test_files_hold_them_by_name_and_unreadable_tiles_stay_unknown(tmp_path: Path) -> None:
    readable = np.array([True] * 8 + [False])
    values = FEATURES.copy()
    values[8] = 0
    table = FeatureTable("s", "texture", "enc", "tiles", 0.5, values, TABLE.coords, readable, "features")
    found = score_features(model(SUBTYPES), table)
    path = tmp_path / "s.parquet"
    write_tile_scores(path, found)
    assert read_tile_scores(path).equals(found)
    header = tile_scores_header(path)
    assert header is not None
    assert header.class_names == found.class_names
    assert np.isnan(found.class_scores("luad")).tolist() == (~readable).tolist()
    import pyarrow.parquet as pq

    assert {"p_luad", "p_lusc", "p_other"} <= set(pq.read_table(path, partitioning=None).column_names)
