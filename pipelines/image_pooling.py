"""What replaces global average pooling best? ResNet-18 with mean, max, attention and loss-attention pooling, and CAL, on CIFAR-10 with few
images and on 20 classes of Tiny ImageNet, where boxes tell whether the top position lies on the object.

Shi et al., Loss-based attention for deep multiple instance learning, AAAI 2020 (Tables 3 to 5; their best test epoch, here the last one).

    python pipelines/image_pooling.py --cifar cifar10_subset.zip --tiny tiny_imagenet20.zip --device cuda --schedule full
    python pipelines/image_pooling.py --cifar cifar10_subset.zip --tiny tiny_imagenet20.zip --schedule short

`short` is for a processor: a few epochs on few images. It shows that everything runs, not what the methods are worth.
Measures are written after every training; a second call with the same schedule and folder goes on where the first one stopped.
"""

import argparse
import json
import math
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.image_attention import interval
from pipelines.image_pooling_data import Pictures, read_cifar, read_tiny_imagenet
from pipelines.image_pooling_models import GRID, LOSS_ATTENTION, POOLINGS, Pooled
from wsi_mil.attention2d.measures import localise
from wsi_mil.attention2d.supervision import box_masks
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.io.files import write_text
from wsi_mil.io.json import read_json, write_json
from wsi_mil.logs import logger, progress, setup_console

BATCH, LR = 100, 3e-3


@dataclass(frozen=True)
class Schedule:
    """`epochs` of each set; how many training and test images (None: all), seeds; CAL with crops and drops."""

    epochs: dict[str, int]
    test: int | None
    seeds: int
    cal_views: bool
    train: dict[str, int]


FULL = Schedule(
    {"cifar 1,000": 200, "cifar 5,000": 200, "tiny": 200},
    None,
    10,
    True,
    {"cifar 1,000": 1000, "cifar 5,000": 5000, "tiny": 10_000},
)
SHORT = Schedule(
    {"cifar 1,000": 10, "cifar 5,000": 2, "tiny": 6},
    1000,
    1,
    False,
    {"cifar 1,000": 1000, "cifar 5,000": 5000, "tiny": 1000},
)


def pace(epoch: int, epochs: int) -> tuple[float, float, float]:
    """Return the share of the learning rate, beta1 and beta2 of an epoch: the paper's ramps over 80 and 50 of 200 epochs."""
    up, down = max(0.4 * epochs, 1), max(0.25 * epochs, 1)
    rate = math.exp(-5 * (1 - min((epoch + 1) / up, 1)) ** 2)
    late = max(epoch - (epochs - down), 0) / down
    return rate * math.exp(-12.5 * late**2), 0.9 - 0.4 * min(late, 1), 0.99 if epoch < up else 0.999


def prepared(pixels: Tensor, device: str) -> Tensor:
    return (pixels.to(device).float() / 255 - 0.5) / 0.25


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrored at random, cut out of an edge of an eighth of the side all round."""
    side = images.shape[-1]
    pad = side // 8
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None].to(images.device), images.flip(3), images)
    wide = F.pad(images, (pad,) * 4)
    corners = torch.randint(2 * pad + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([wide[i, :, y : y + side, x : x + side] for i, (y, x) in enumerate(corners)])


def train(pooling: str, images: Pictures, epochs: int, seed: int, device: str, cal_views: bool) -> Pooled:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    classes = int(images.labels.max()) + 1
    model = (
        Pooled(pooling, classes, images.pixels.shape[-1], len(images), epochs, seed, cal_views)
        .to(device)
        .train()
    )
    for epoch in range(epochs):
        rate, *betas = pace(epoch, epochs)
        # made anew every epoch, as the published code does: the moments start again
        optimiser = torch.optim.Adam(model.parameters(), lr=rate * LR, betas=(betas[0], betas[1]))
        for rows in torch.randperm(len(images), generator=generator).split(BATCH):
            batch = augmented(prepared(images.pixels[rows], device), generator)
            loss = model.loss(batch, images.labels[rows].to(device), rows.to(device))
            if not torch.isfinite(loss):
                raise DataError(
                    f"{pooling}, seed {seed}: the loss is {float(loss.detach())} in epoch {epoch + 1}"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        if pooling in LOSS_ATTENTION:
            model.head.end_epoch()
    return model.eval()


@torch.no_grad()
def measure(model: Pooled, images: Pictures, device: str) -> dict[str, float]:
    """Accuracy, and with boxes the share of images whose top position lies on the object (at least half of it in the box)."""
    logits, maps = zip(*(model(prepared(part, device)) for part in images.pixels.split(BATCH)), strict=True)
    found = {"accuracy": float((torch.cat(logits).argmax(1).cpu() == images.labels).float().mean())}
    if bool(images.boxes.any()):
        found["top position"] = top_position(torch.cat(maps).cpu(), images)
    return found


def top_position(maps: Tensor, images: Pictures) -> float:
    """Share of images in whose box the largest of maps (N, h, w) lies."""
    size = (images.pixels.shape[2], images.pixels.shape[3])
    whole = F.interpolate(maps[:, None], size, mode="nearest")[:, 0]
    truth = box_masks(images.boxes, size)[:, 0] > 0.5
    return float(localise(whole, truth, GRID).top_position.float().mean())


def blind_position(images: Pictures) -> float:
    """What `top_position` is on the mean of all positions: for one that looks at nothing."""
    each = torch.eye(GRID[0] * GRID[1]).view(-1, 1, *GRID).expand(-1, len(images), -1, -1)
    return statistics.fmean(top_position(maps, images) for maps in each)


Found = dict[str, dict[str, list[dict[str, float]]]]
"""Measures of every seed, by set and pooling."""


def study(options: argparse.Namespace, schedule: Schedule) -> Found:
    """Train every pooling on every set with every seed that `options.out` has no measures of; return the measures."""
    cifar, tiny = read_cifar(options.cifar), read_tiny_imagenet(options.tiny)
    record = options.out / "image_pooling.json"
    settings = json.loads(json.dumps(asdict(schedule)))
    done: dict[str, dict[str, float]] = {}
    if record.exists():
        written = read_json(record)
        if written["schedule"] != settings:
            raise DataError(f"{record} holds measures of another schedule: give --out another folder")
        done = written["measures"]
    jobs = [
        (name, seed, pooling)
        for name in options.sets
        for seed in range(schedule.seeds)
        for pooling in POOLINGS
    ]
    for name, seed, pooling in progress(jobs, total=len(jobs), label="poolings", unit="training"):
        key = f"{name}/{seed}/{pooling}"
        if key in done:
            continue
        generator = torch.Generator().manual_seed(seed)  # every pooling of a seed sees the same images
        training, test = tiny if name == "tiny" else cifar
        training = training.few(schedule.train[name], generator)
        test = test if schedule.test is None else test.few(schedule.test, generator)
        started = time.perf_counter()
        model = train(pooling, training, schedule.epochs[name], seed, options.device, schedule.cal_views)
        done[key] = measure(model, test, options.device)
        logger().info("  %s: %s (%.0f s)", key, done[key], time.perf_counter() - started)
        write_json(record, {"schedule": settings, "measures": done})
    return {
        name: {
            pooling: [done[f"{name}/{seed}/{pooling}"] for seed in range(schedule.seeds)]
            for pooling in POOLINGS
        }
        for name in options.sets
    }


def table(found: Found) -> str:
    columns = [(name, "accuracy") for name in found] + [
        ("tiny", "top position") for name in found if name == "tiny"
    ]
    head = [f"{name}: {measure}" for name, measure in columns]
    lines = ["| pooling | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for pooling in POOLINGS:
        cells = [interval([row[measure] for row in found[name][pooling]]) for name, measure in columns]
        lines.append(f"| {pooling} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--tiny", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(FULL.epochs), default=list(FULL.epochs))
    parser.add_argument("--schedule", choices=["full", "short"], default="short")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/image_pooling"), help="where measures and the table go"
    )
    options = parser.parse_args()
    setup_console()
    started = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        found = study(options, FULL if options.schedule == "full" else SHORT)
    except WsiMilError as error:
        raise SystemExit(f"error: {error}") from None
    text = f"Schedule: {options.schedule}\n\n{table(found)}\n"
    if "tiny" in found:
        text += f"\nA position drawn blindly: {blind_position(read_tiny_imagenet(options.tiny)[1]):.3f}\n"
    write_text(options.out / "image_pooling.md", text)
    print(text)
    print(f"{(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
