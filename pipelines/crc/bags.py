"""The patches of the colon nuclei as bags of texture features, one bag a patient, without slides."""

from pathlib import Path

import numpy as np
import torch

from wsi_mil.contracts.bags import Bag
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.logs import progress

BATCH = 256


def patient_bags(data: Path, cache: Path) -> list[Bag]:
    """Return a bag for each patient, with the labels of its patches.

    data: crchisto27.npz, as in `pipelines.crc.mosaics`. cache: an .npz file for the features, which is read
    if it exists.
    """
    with np.load(data, allow_pickle=False) as arrays:
        images, patient, cancerous = arrays["images"], arrays["patient"], arrays["cancerous"].astype(bool)
    if not cache.exists():
        encoder = build_encoder(EncoderSpec(name="texture"), "cpu")
        starts = range(0, len(images), BATCH)
        with torch.inference_mode():
            parts = [
                encoder.encode(torch.from_numpy(images[start : start + BATCH])).numpy()
                for start in progress(starts, total=len(starts), label="colon nuclei", unit="batch")
            ]
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, features=np.concatenate(parts))
    with np.load(cache, allow_pickle=False) as stored:
        features = torch.from_numpy(stored["features"])
    bags = []
    for number in np.unique(patient):
        own, marks = patient == number, torch.from_numpy(cancerous[patient == number].astype(np.int64))
        name = f"patient_{int(number):03d}"
        bags.append(Bag(name, features[own], int(marks.max()), instance_labels=marks))
    return bags
