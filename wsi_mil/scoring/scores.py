"""From features to scores."""

import numpy as np
import torch
from torch import Tensor

from wsi_mil.aggregators import Aggregator
from wsi_mil.aggregators.max_pooling import MaxPooling
from wsi_mil.bags import BagSource, load_bag, read_bag
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.scoring.model import TrainedModel
from wsi_mil.training.two_pass import score_in_chunks

CHUNK_ROWS = 65536


@torch.inference_mode()
def score_bag(aggregator: Aggregator, bag: BagSource) -> tuple[Tensor, Tensor, str]:
    """Return class probabilities (C,) float64, instance scores (N,) and their kind. A bag beyond 65,536 instances goes
    through max-pooling methods in chunks, which gives the same."""
    if isinstance(aggregator, MaxPooling) and len(bag) > CHUNK_ROWS:
        reduced, scores = score_in_chunks(aggregator, bag, chunk_rows=CHUNK_ROWS)
        output = aggregator(reduced)
    else:
        output = aggregator(PackedBags.pack([read_bag(bag)]))
        scores = output.instance_scores
    return aggregator.probabilities(output.bag_logits.double())[0], scores, output.score_kind


def slide_probability(aggregator: Aggregator, bag: BagSource) -> float:
    """Return the probability of being positive: of class 1, or with more classes one minus that of the first."""
    return float(1 - score_bag(aggregator, bag)[0][0])


def score_features(model: TrainedModel, table: FeatureTable) -> SlideScores:
    """Return the scores of one slide. Raises ModelError if the features are not of the model's encoder.

    The positive probability is that of class 1, or with more classes one minus that of the first.
    """
    model.check_features(table)
    bag = model.standardizer(load_bag(table, label=0))
    probabilities, scores, kind = score_bag(model.aggregator, bag)
    tiles = np.full(len(table.coords), np.nan, np.float32)
    tiles[table.readable] = scores.float().numpy()
    return SlideScores(
        slide_id=table.slide_id,
        probability=float(1 - probabilities[0]),
        class_probabilities=tuple(probabilities.tolist()),
        tile_scores=tiles,
        score_kind=kind,
        coords=table.coords,
        tiles_digest=table.tiles_digest,
        features_digest=table.digest,
        model_digest=model.digest,
    )
