"""Who finds the tumour with labels of whole images? Grad-CAM, GAIN, GAIN with a few masks, CAL and loss-attention, on drawn H&E whose
truth is exact: single nests, tiles of synthetic slides, and nests again where colour goes with the label in training and not in the test.

    python pipelines/image_attention.py [--seeds 1 2 3] [--train 400] [--test 200] [--epochs 18] [--out FOLDER] [--device cpu]

Every seed draws its own tissue, network and order. Nothing is chosen on the test images: the last epoch is used.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from pipelines.image_attention_data import (
    SIDE_PX,
    Images,
    nest_images,
    slide_images,
    standardised,
    with_colour_shortcut,
)
from wsi_mil.errors import DataError
from wsi_mil.files import write_json, write_text
from wsi_mil.logs import logger, progress, setup_console
from wsi_mil.spatial import CAL, GAIN, LossAttentionPool2d, grad_cam
from wsi_mil.spatial.backbones import SMALL_CHANNELS, SmallBackbone
from wsi_mil.spatial.measures import localise

MAPS, GRID = 8, (SIDE_PX // 4, SIDE_PX // 4)
BATCH, LR = 32, 5e-4
CLASSIFICATION_ONLY = 0.25
"""Share of the epochs before GAIN's map counts: at first it shows nothing worth covering."""
NEST = 1


def head() -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(SMALL_CHANNELS, 2))


@dataclass(frozen=True)
class Batch:
    """Images with labels, masks, which masks may be used, and how far training is (0 to 1)."""

    pixels: Tensor
    labels: Tensor
    masks: Tensor
    has_mask: Tensor
    done: float


class Method(nn.Module):
    """A classifier with its loss, and its maps of the nest."""

    def loss(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def logits(self, pixels: Tensor) -> Tensor:
        raise NotImplementedError

    def maps(self, pixels: Tensor) -> Tensor:
        """(B, H, W), at the images' size."""
        raise NotImplementedError


class Plain(Method):
    """Cross-entropy; Grad-CAM afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = SmallBackbone(), head()

    def loss(self, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(self.logits(batch.pixels), batch.labels)

    def logits(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.head(self.features(pixels))
        return found

    def maps(self, pixels: Tensor) -> Tensor:
        return grad_cam(self.features, self.head, pixels, torch.full((len(pixels),), NEST, device=pixels.device))


class Guided(Plain):
    """GAIN on the images with a nest; with masks of some of them GAIN_ext. As published: a logit for each class by itself."""

    def loss(self, batch: Batch) -> Tensor:
        both = nn.functional.one_hot(batch.labels, 2)
        if batch.done < CLASSIFICATION_ONLY:
            return nn.functional.binary_cross_entropy_with_logits(self.logits(batch.pixels), both.float())
        model = GAIN(self.features, self.head, per_class=True)
        output = model(batch.pixels, both * torch.tensor([0, 1], device=both.device))
        return torch.stack(list(model.losses(output, both, batch.masks, batch.has_mask).values())).sum()


class Counterfactual(Method):
    """CAL with crops and drops."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.model = CAL(SmallBackbone(), SMALL_CHANNELS, 2, maps=MAPS, generator=generator)

    def loss(self, batch: Batch) -> Tensor:
        output = self.model(batch.pixels)
        others = [self.model(view) for view in self.model.augment(batch.pixels, output.attention)]
        return torch.stack(list(self.model.losses(output, batch.labels, others).values())).sum()

    def logits(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.model(pixels).logits
        return found

    def maps(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.model(pixels).maps[:, NEST]
        return found


class LossAttention(Method):
    """Loss-attention pooling, without steadiness over epochs (the images are turned at random)."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.pool = SmallBackbone(), LossAttentionPool2d(SMALL_CHANNELS, 2)

    def loss(self, batch: Batch) -> Tensor:
        terms = self.pool.losses(self.pool(self.features(batch.pixels)), batch.labels)
        return torch.stack(list(terms.values())).sum()

    def logits(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.pool(self.features(pixels)).logits
        return found

    def maps(self, pixels: Tensor) -> Tensor:
        small = self.pool(self.features(pixels)).maps[:, NEST : NEST + 1]
        return nn.functional.interpolate(small, pixels.shape[2:], mode="bilinear", align_corners=True)[:, 0]


METHODS: dict[str, tuple[Callable[[torch.Generator], Method], float]] = {
    "Grad-CAM": (lambda _: Plain(), 0.0),
    "GAIN": (lambda _: Guided(), 0.0),
    "GAIN_ext, 1 % masks": (lambda _: Guided(), 0.01),
    "GAIN_ext, 5 % masks": (lambda _: Guided(), 0.05),
    "GAIN_ext, 10 % masks": (lambda _: Guided(), 0.10),
    "CAL": (Counterfactual, 0.0),
    "loss-attention": (lambda _: LossAttention(), 0.0),
}
"""Method -> how it is made, and of which share of the images it may see the mask (drawn among those with a nest)."""


def train(name: str, images: Images, seed: int, epochs: int, device: str) -> Method:
    """Return the method after `epochs`, the images turned and mirrored batch by batch."""
    make, share = METHODS[name]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = make(generator).to(device).train()
    has_mask = torch.zeros(len(images.labels), dtype=torch.bool)
    nests = torch.nonzero(images.labels == NEST)[:, 0]
    has_mask[nests[torch.randperm(len(nests), generator=generator)[: round(share * len(images.labels))]]] = True
    optimiser = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-4)
    steps = epochs * (len(images.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        order = torch.randperm(len(images.labels), generator=generator)
        for rows in order.split(BATCH):
            if len(rows) < BATCH:
                continue
            turns, mirrored = (int(torch.randint(n, (), generator=generator)) for n in (4, 2))
            pixels, masks = (torch.rot90(part[rows], turns, (2, 3)) for part in (images.pixels, images.masks))
            pixels, masks = (part.flip(3) if mirrored else part for part in (pixels, masks))
            batch = Batch(
                pixels.to(device),
                images.labels[rows].to(device),
                masks.to(device),
                has_mask[rows].to(device),
                epoch / epochs,
            )
            loss = model.loss(batch)
            if not torch.isfinite(loss):
                raise DataError(f"{name}, seed {seed}: the loss is {float(loss.detach())} in epoch {epoch + 1}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def measure(model: Method, images: Images, device: str) -> dict[str, float]:
    """Accuracy on all test images, localisation on those with a nest."""
    with torch.no_grad():
        logits = torch.cat([model.logits(part.to(device)).cpu() for part in images.pixels.split(BATCH)])
        nests = images.labels == NEST
        maps = torch.cat([model.maps(part.to(device)).cpu() for part in images.pixels[nests].split(BATCH)])
    found = localise(maps, images.masks[nests, 0] > 0.5, GRID)
    return {
        "accuracy": float((logits.argmax(1) == images.labels).float().mean()),
        "pointing": float(found.pointing.float().mean()),
        "top position": float(found.top_position.float().mean()),
        "IoU": float(found.iou.mean()),
    }


def interval(values: list[float]) -> str:
    """The mean and its 95 % interval over seeds by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3f} ± {half:.3f}"


TITLES = {
    "nests": "Nests, colour says nothing",
    "slides": "Tiles of synthetic slides, three scanners",
    "shortcut": "Nests, colour goes with the label in training only",
}


def data_sets(kind: str, options: argparse.Namespace, seed: int, folder: Path) -> tuple[Images, Images]:
    """Return training and test images of one kind and seed, drawn independently."""
    seeds = 2 * seed, 2 * seed + 1
    if kind == "slides":
        training, test = (
            slide_images(n, s, folder / f"{s}") for n, s in zip((options.train, options.test), seeds, strict=True)
        )
    else:
        training, test = (nest_images(n, s) for n, s in zip((options.train, options.test), seeds, strict=True))
    if kind == "shortcut":
        training, test = with_colour_shortcut(training, 0.95, seed), with_colour_shortcut(test, 0.5, seed + 1000)
    return standardised(training, training), standardised(test, training)


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Train every method on all kinds of images with every seed; return the measures, seed by seed."""
    found: dict[str, Any] = {kind: {name: [] for name in METHODS} for kind in TITLES}
    sets = [(kind, seed) for kind in TITLES for seed in options.seeds]
    for kind, seed in progress(sets, total=len(sets), label="images", unit="set"):
        with TemporaryDirectory() as folder:
            training, test = data_sets(kind, options, seed, Path(folder))
        for name in METHODS:
            started = time.perf_counter()
            row = measure(train(name, training, seed, options.epochs, options.device), test, options.device)
            row["seconds"] = time.perf_counter() - started
            told = ", ".join(f"{key} {value:.3f}" for key, value in row.items() if key != "seconds")
            logger().info("  %s, seed %d, %s: %s (%.0f s)", kind, seed, name, told, row["seconds"])
            found[kind][name].append(row)
    return found


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    columns = ("accuracy", "pointing", "top position", "IoU")
    lines = ["| method | " + " | ".join(columns) + " | seconds a training |", "|---|" + "---|" * (len(columns) + 1)]
    for name, seeds in rows.items():
        cells = [interval([row[column] for row in seeds]) for column in columns]
        lines.append(
            f"| {name} | " + " | ".join(cells) + f" | {statistics.fmean(row['seconds'] for row in seeds):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="0: what settings were tried on")
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/image_attention"))
    options = parser.parse_args()
    setup_console()
    started = time.perf_counter()
    found = study(options)
    text = "\n".join(f"{title}\n\n{table(found[kind])}\n" for kind, title in TITLES.items())
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    write_json(options.out / "image_attention.json", {"settings": settings, "measures": found})
    write_text(options.out / "image_attention.md", text)
    print(text)
    print(f"{(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
