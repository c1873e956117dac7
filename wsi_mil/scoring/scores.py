"""From features to scores."""

import numpy as np
import torch

from wsi_mil.bags import load_bag
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.scoring.model import TrainedModel


@torch.inference_mode()
def score_features(model: TrainedModel, table: FeatureTable) -> SlideScores:
    """Return the scores of one slide. Raises ModelError if the features are not of the model's encoder.

    The positive probability is that of class 1, or with more classes one minus that of the first.
    """
    model.check_features(table)
    bag = model.standardizer(load_bag(table, label=0))
    output = model.aggregator(PackedBags.pack([bag]))
    probabilities = model.aggregator.probabilities(output.bag_logits.double())[0]
    tiles = np.full(len(table.coords), np.nan, np.float32)
    tiles[table.readable] = output.instance_scores.float().numpy()
    return SlideScores(
        slide_id=table.slide_id,
        probability=float(1 - probabilities[0]),
        class_probabilities=tuple(probabilities.tolist()),
        tile_scores=tiles,
        score_kind=output.score_kind,
        coords=table.coords,
        tiles_digest=table.tiles_digest,
        features_digest=table.digest,
        model_digest=model.digest,
    )
