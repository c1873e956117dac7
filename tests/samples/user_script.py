"""A script as a user writes it: a slide through a trained model, a training on bags, and an evaluation.

tests/test_public_api.py checks it with `mypy --strict` and then runs it.
"""

import sys
from pathlib import Path

import numpy as np
import torch

import wsi_mil as wm


def tumour_heatmap(slide_path: Path, model_folder: Path, out: Path) -> float:
    """Write an overlay of tile scores; return the slide's probability of tumour."""
    model = wm.load_model(model_folder)
    with wm.open_slide(slide_path) as slide:
        tissue = wm.find_tissue(slide, model.tissue)
        tiles = wm.tile_slide(slide.info, tissue, model.tiles)
        features = wm.encode_tiles(slide, tiles, wm.build_encoder(model.encoder))
        scores = wm.score_features(model, features)
        raster = wm.score_raster(tiles, scores.tile_scores01())
        out.write_bytes(wm.draw_overlay(wm.read_scaled(slide, 4.0), raster, slide.info))
    return scores.probability


def small_bags(rng: np.random.Generator, count: int) -> list[wm.Bag]:
    """Return bags of 20 instances; the first instance of a positive bag differs from all others."""
    bags = []
    for number in range(count):
        label = number % 2
        features = torch.from_numpy(rng.normal(size=(20, 4))).float()
        features[0, 0] += 6 * label
        bags.append(wm.Bag(f"bag_{number}", features, label))
    return bags


def auc_of_a_training(rng: np.random.Generator) -> float:
    """Train FocusMIL on small bags; return the AUC on bags that it has not seen."""
    model = wm.build_aggregator("mi_net", in_features=4, n_outputs=1, seed=0)
    train, val, test = (small_bags(rng, count) for count in (40, 20, 20))
    wm.fit(model, train, val, wm.TrainSpec(epochs=15, lr=0.01))
    probabilities = [wm.slide_probability(model, bag) for bag in test]
    return wm.auc(np.array([bag.label == 1 for bag in test]), np.array(probabilities))


if __name__ == "__main__":
    try:
        slide_path, model_folder, out = (Path(text) for text in sys.argv[1:])
        print(f"probability {tumour_heatmap(slide_path, model_folder, out):.3f}")
        print(f"auc {auc_of_a_training(np.random.default_rng(0)):.3f}")
    except wm.WsiMilError as error:
        sys.exit(str(error))
