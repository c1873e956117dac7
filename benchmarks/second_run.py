"""What a run costs that has nothing to do: the second run of many simulated slides.

Each slide is a copy of one of a few simulated slides of 768 x 512 px, so that the first run takes minutes.
It is a run like any other: three models, heatmaps, an evaluation and a report. The difference between two
numbers of slides gives the cost of a slide, without the start of the program.

    python benchmarks/second_run.py [--slides 1000] [--fewer 100] [--folder FOLDER] [--json FILE]
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.processor import adopt_orphans, timed
from wsi_mil.io.json import write_json
from wsi_mil.io.tables import markdown_table, write_csv
from wsi_mil.synthetic.writing import write_pyramid

KINDS = 8
MPP = 2.0
SETTINGS = """
run: {folder}/run
seed: 1
slides: {{folder: {folder}/slides, labels: {folder}/labels.csv, mpp: 2.0}}
tissue: {{method: otsu, mpp: 8.0, min_area_mm2: 0.01}}
tiles: {{mpp: 2.0, size_px: 64}}
encoder: {{name: texture}}
split: {{kind: holdout, test_share: 0.34, val_share: 0.25}}
train: {{epochs: 1}}
models: {{focus_mil: {{}}, mi_net: {{}}, abmil_gated: {{}}}}
heatmaps: {{overlay_px: 200, parts: [train, val, test]}}
evaluation: {{bootstrap: 100}}
"""


def write_slide(path: Path, kind: int) -> None:
    """Write a slide with one ellipse of stained tissue; those of odd kinds have a darker spot."""
    rng = np.random.default_rng(kind)
    pixels = np.full((512, 768, 3), 240, np.uint8)
    cv2.ellipse(pixels, (384, 256), (300, 180), 10 * kind, 0, 360, (200, 120, 170), -1)
    if kind % 2:
        cv2.circle(pixels, (300 + 20 * kind, 256), 70, (120, 50, 140), -1)
    noise = rng.normal(0, 6, pixels.shape)
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    write_pyramid(path, pixels, None, factor=0, quality=None)


def make(folder: Path, slides: int) -> Path:
    """Write slides, labels and the configuration below `folder`; return the configuration."""
    (folder / "slides").mkdir(parents=True)
    for kind in range(KINDS):
        write_slide(folder / f"{kind}.tiff", kind)
    rows = []
    for number in range(slides):
        name = f"centre_{number % 5}_slide_{number:06d}"
        shutil.copy(folder / f"{number % KINDS}.tiff", folder / "slides" / f"{name}.tiff")
        rows.append([name, "tumor" if number % 2 else "normal", f"patient_{number // 2:06d}"])
    write_csv(folder / "labels.csv", ["slide", "label", "patient"], rows)
    path = folder / "run.yaml"
    path.write_text(SETTINGS.format(folder=folder))
    return path


def measure(folder: Path, slides: int) -> dict[str, float]:
    """Return the costs of the first run and of a second one of so many slides; wall time and processor."""
    config = folder / "run.yaml"
    if not config.exists():
        make(folder, slides)
    first, second = (timed(["run", str(config)]) for _ in range(2))
    return {
        "slides": slides,
        "first_run_s": first[0],
        "first_run_processor_s": first[1],
        "second_run_s": second[0],
        "second_run_processor_s": second[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--fewer", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="kept, and used again; default: a temporary one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        found = [measure(folder / str(count), count) for count in (options.fewer, options.slides)]
    cells = [[f"{value:,.4g}" for value in row.values()] for row in found]
    print(markdown_table(list(found[0]), cells))
    few, many = found
    for key in ("second_run_s", "second_run_processor_s"):
        cost = 1000 * (many[key] - few[key]) / (many["slides"] - few["slides"])
        print(f"{key}: {cost:.2f} ms for each further slide")
    if options.json:
        write_json(options.json, {"runs": found})


if __name__ == "__main__":
    main()
