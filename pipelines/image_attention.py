"""Which method finds the tumour when it is trained on labels of whole images?

Question: Grad-CAM, GAIN, GAIN with a few masks, CAL and loss-attention are trained to tell images with a
tumour nest from images without one. How well do their maps cover the nest, and what happens if colour goes
with the label in training?

Data: drawn H&E with exact truth, made by the script: single nests, tiles of synthetic slides, and nests whose
colour goes with the label in the training images but not in the test images.

    python pipelines/image_attention.py [--seeds 1 2 3] [--train 400] [--test 200] [--epochs 18]
        [--out FOLDER] [--device cpu]

Seeds: 1, 2, 3 (--seeds). Every seed has its own tissue, initial weights and order. Nothing is chosen on the
test images: the last epoch is used. Writes image_attention.json (every measure of every seed) and
image_attention.md (the tables) into runs/image_attention.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.attention.images import Images, standardised, with_colour_shortcut
from pipelines.attention.methods import METHODS
from pipelines.attention.nests import nest_images
from pipelines.attention.slide_tiles import slide_images
from pipelines.attention.training import Measures, measure, train
from pipelines.intervals import interval
from wsi_mil.io.files import write_text
from wsi_mil.io.json import write_json
from wsi_mil.io.tables import markdown_table
from wsi_mil.logs import logger, progress, setup_console

TITLES = {
    "nests": "Nests, colour says nothing",
    "slides": "Tiles of synthetic slides, three scanners",
    "shortcut": "Nests, colour goes with the label in training only",
}


@dataclass(frozen=True)
class Trained:
    """One training: its measures on the test images, and how long it took."""

    measures: Measures
    seconds: float

    def as_json(self) -> dict[str, float]:
        """Return the measures under the names of the tables' columns, and the seconds."""
        return {**self.shown(), "seconds": self.seconds}

    def shown(self) -> dict[str, float]:
        """Return the columns of the tables."""
        found = self.measures
        return {
            "accuracy": found.accuracy,
            "pointing": found.pointing,
            "top position": found.top_position,
            "IoU": found.iou,
        }


Found = dict[str, dict[str, list[Trained]]]
"""Kind of images -> method -> one training per seed."""


def data_sets(kind: str, options: argparse.Namespace, seed: int, folder: Path) -> tuple[Images, Images]:
    """Return training and test images of one kind and seed, drawn independently of each other."""
    counts, seeds = (options.train, options.test), (2 * seed, 2 * seed + 1)
    if kind == "slides":
        training, test = (slide_images(n, s, folder / f"{s}") for n, s in zip(counts, seeds, strict=True))
    else:
        training, test = (nest_images(n, s) for n, s in zip(counts, seeds, strict=True))
    if kind == "shortcut":
        training = with_colour_shortcut(training, 0.95, seed)
        test = with_colour_shortcut(test, 0.5, seed + 1000)
    return standardised(training, training), standardised(test, training)


def study(options: argparse.Namespace) -> Found:
    """Train and measure every method on all kinds of images with every seed."""
    found: Found = {kind: {name: [] for name in METHODS} for kind in TITLES}
    sets = [(kind, seed) for kind in TITLES for seed in options.seeds]
    for kind, seed in progress(sets, total=len(sets), label="images", unit="set"):
        with TemporaryDirectory() as folder:
            training, test = data_sets(kind, options, seed, Path(folder))
        for name in METHODS:
            started = time.perf_counter()
            model = train(name, training, seed, options.epochs, options.device)
            measures = measure(model, test, options.device)
            trained = Trained(measures, time.perf_counter() - started)
            values = ", ".join(f"{key} {value:.3f}" for key, value in trained.shown().items())
            logger().info("  %s, seed %d, %s: %s (%.0f s)", kind, seed, name, values, trained.seconds)
            found[kind][name].append(trained)
    return found


def table(by_method: Mapping[str, Sequence[Trained]]) -> str:
    """Return a Markdown table of one kind of images: means over seeds with their intervals."""
    rows: list[list[str]] = []
    columns: list[str] = []
    for name, trained in by_method.items():
        shown = [one.shown() for one in trained]
        columns = list(shown[0])
        cells = [interval([row[column] for row in shown]) for column in columns]
        rows.append([name, *cells, f"{statistics.fmean(one.seconds for one in trained):.0f}"])
    return markdown_table(["method", *columns, "seconds a training"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="the settings were tried on seed 0"
    )
    parser.add_argument("--train", type=int, default=400, help="training images")
    parser.add_argument("--test", type=int, default=200, help="test images")
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
    measures = {
        kind: {name: [one.as_json() for one in seeds] for name, seeds in methods.items()}
        for kind, methods in found.items()
    }
    write_json(options.out / "image_attention.json", {"settings": settings, "measures": measures})
    write_text(options.out / "image_attention.md", text)
    print(text)
    print(f"{(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
