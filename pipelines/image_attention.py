"""Who finds the tumour with labels of whole images? Grad-CAM, GAIN, GAIN with a few masks, CAL and loss-attention, on drawn H&E whose
truth is exact: single nests, tiles of synthetic slides, and nests again where colour goes with the label in training and not in the test.

    python pipelines/image_attention.py [--seeds 1 2 3] [--train 400] [--test 200] [--epochs 18] [--out FOLDER] [--device cpu]

Every seed draws its own tissue, network and order. Nothing is chosen on the test images: the last epoch is used.
"""

import argparse
import math
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from scipy import stats

from pipelines.image_attention_data import (
    SIDE_PX,
    Images,
    nest_images,
    slide_images,
    standardised,
    with_colour_shortcut,
)
from pipelines.image_attention_methods import METHODS, NEST, Batch, Method
from wsi_mil.attention2d.measures import localise
from wsi_mil.errors import DataError
from wsi_mil.io.files import write_text
from wsi_mil.io.json import write_json
from wsi_mil.logs import logger, progress, setup_console

GRID = (SIDE_PX // 4, SIDE_PX // 4)
BATCH, LR = 32, 5e-4


def train(name: str, images: Images, seed: int, epochs: int, device: str) -> Method:
    """Return the method after `epochs`, the images turned and mirrored batch by batch."""
    make, share = METHODS[name]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = make(generator).to(device).train()
    has_mask = torch.zeros(len(images.labels), dtype=torch.bool)
    nests = torch.nonzero(images.labels == NEST)[:, 0]
    has_mask[nests[torch.randperm(len(nests), generator=generator)[: round(share * len(images.labels))]]] = (
        True
    )
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
                raise DataError(
                    f"{name}, seed {seed}: the loss is {float(loss.detach())} in epoch {epoch + 1}"
                )
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
            slide_images(n, s, folder / f"{s}")
            for n, s in zip((options.train, options.test), seeds, strict=True)
        )
    else:
        training, test = (
            nest_images(n, s) for n, s in zip((options.train, options.test), seeds, strict=True)
        )
    if kind == "shortcut":
        training, test = (
            with_colour_shortcut(training, 0.95, seed),
            with_colour_shortcut(test, 0.5, seed + 1000),
        )
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
    lines = [
        "| method | " + " | ".join(columns) + " | seconds a training |",
        "|---|" + "---|" * (len(columns) + 1),
    ]
    for name, seeds in rows.items():
        cells = [interval([row[column] for row in seeds]) for column in columns]
        lines.append(
            f"| {name} | "
            + " | ".join(cells)
            + f" | {statistics.fmean(row['seconds'] for row in seeds):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="0: what settings were tried on"
    )
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
