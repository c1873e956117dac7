"""Bags of features of real lung images: slides of which about 1 % is tumour, seen in four laboratories.

The hard form of the lung mosaics without pixels of whole slides: each image of 224 px is stained and blurred
as its laboratory does, read at 1 µm/px, and encoded. A bag draws its tiles from these. Training and
validation slides come from two laboratories, test slides from the two others. A group of near-duplicates is
in one part only.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.lung.drawing import stain
from pipelines.lung.pools import read_pools
from pipelines.lung.slides import centres_of, draw_centres
from pipelines.lung.spec import CARCINOMAS, IMAGE_PX, NORMAL, Centre, MosaicSpec
from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.bags import Bag
from wsi_mil.encoders import build_encoder
from wsi_mil.encoders.base import Encoder
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.io.images import decode_image
from wsi_mil.logs import progress

Features = dict[tuple[str, str], NDArray[np.float32]]
"""(laboratory, image) -> features (D,)."""
BATCH = 64


@dataclass(frozen=True)
class BagForm:
    """How a cohort is made. tiles: of a slide. tumour: the fewest and most tumour tiles of a tumour slide."""

    tiles: int = 220
    tumour: tuple[int, int] = (1, 3)
    slides: tuple[tuple[str, int], ...] = (("train", 48), ("val", 24), ("test", 60))


def draw_cohort(
    archive: Path, squeezenet: Path, cache: Path, form: BagForm, draw: int
) -> dict[str, list[Bag]]:
    """Return the bags of each part of cohort number `draw`. Features are kept in `cache`."""
    rng = np.random.default_rng(draw)
    spec = MosaicSpec(
        slides=dict(form.slides), centres=4, slide_jitter=0.0, centre_jitter=0.2, blur_px=(0.0, 2.0)
    )
    pools = read_pools(archive, rng)
    centres = draw_centres(spec, rng)
    names = {
        (c.name, n): c
        for part, pool in pools.items()
        for c in centres_of(part, centres)
        for own in pool.values()
        for n in own
    }
    features = _features(archive, squeezenet, cache / f"draw_{draw}.npz", names)
    found: dict[str, list[Bag]] = {}
    for part, count in form.slides:
        found[part] = []
        for number in range(count):
            label = number % 2
            laboratories = centres_of(part, centres)
            laboratory = laboratories[int(rng.integers(len(laboratories)))].name
            tumour = int(rng.integers(form.tumour[0], form.tumour[1] + 1)) * label
            carcinoma = CARCINOMAS[int(rng.integers(len(CARCINOMAS)))]
            images = [
                *np.resize(rng.permutation(pools[part][carcinoma]), tumour).tolist(),
                *np.resize(rng.permutation(pools[part][NORMAL]), form.tiles - tumour).tolist(),
            ]
            rows = np.stack([features[laboratory, name] for name in images])
            marks = torch.tensor([1] * tumour + [0] * (form.tiles - tumour))
            name = f"{part}_{number:03d}"
            found[part].append(Bag(name, torch.from_numpy(rows), label, instance_labels=marks))
    return found


def _features(archive: Path, squeezenet: Path, file: Path, images: dict[tuple[str, str], Centre]) -> Features:
    keys = list(images)
    if not file.exists():
        spec = EncoderSpec(name="torchvision:squeezenet1_0", weights=str(squeezenet), input_px=IMAGE_PX // 2)
        encoder = build_encoder(spec, "cpu")
        parts: list[NDArray[np.float32]] = []
        with zipfile.ZipFile(archive) as files:
            starts = range(0, len(keys), BATCH)
            for start in progress(starts, total=len(starts), label=file.stem, unit="batch"):
                batch = [(name, images[laboratory, name]) for laboratory, name in keys[start : start + BATCH]]
                parts.append(_encode(files, encoder, batch))
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, features=np.concatenate(parts))
    with np.load(file, allow_pickle=False) as stored:
        return dict(zip(keys, stored["features"], strict=True))


def _encode(
    files: zipfile.ZipFile, encoder: Encoder, batch: Sequence[tuple[str, Centre]]
) -> NDArray[np.float32]:
    tiles = [read_tile(files, name, centre) for name, centre in batch]
    with torch.inference_mode():
        return encoder.encode(torch.from_numpy(np.stack(tiles))).numpy()


def read_tile(files: zipfile.ZipFile, name: str, centre: Centre) -> RGB:
    """Return an image as its laboratory stains and focuses it, at 1 µm/px: (112, 112, 3)."""
    pixels = stain(decode_image(files.read(name), name), centre.gains)
    if centre.blur_px > 0:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), centre.blur_px), np.uint8)
    side = IMAGE_PX // 2
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
