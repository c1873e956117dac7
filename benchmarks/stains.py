"""How well the tissue of drawn stains, frames and pen marks is found, and how long it takes.

python benchmarks/stains.py [--seeds N] [--workers N]

The slides are those of `wsi_mil.synthetic.stained`, whose outlines are known. The constants of `auto` were
set by hand; slides up to seed 5059 were looked at. The seeds here start at 6000. Pieces of tissue below
`tissue.min_area_mm2` do not count, since every method drops them. The time is a ratio to `otsu` on the same
images.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np

from wsi_mil.contracts.arrays import Mask
from wsi_mil.io.tables import markdown_table
from wsi_mil.slides import ArrayReader
from wsi_mil.synthetic.stained import KINDS, StainedSlide, draw_stained
from wsi_mil.tissue import TissueSpec, find_tissue
from wsi_mil.tissue.segmentation import drop_small
from wsi_mil.units import UM2_PER_MM2

METHODS = ("auto", "otsu")
FIRST_SEED, SIZE_PX, GOAL = 6000, (700, 500), 0.9
HEADER = ["kind", *(f"{m}: {what}" for m in METHODS for what in ("least", "mean", f"below {GOAL}"))]


def overlap(slide: StainedSlide, found: Mask) -> float:
    """Return the intersection over union with the drawn tissue.

    Tissue below pen, and pieces that are smaller than the least area of tissue, do not count.
    """

    def coarse(mask: Mask) -> Mask:
        size = found.shape[1], found.shape[0]
        return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5

    large = drop_small(slide.tissue, TissueSpec().min_area_mm2 * UM2_PER_MM2 / slide.mpp**2)
    counted, truth = ~coarse((slide.tissue & slide.pen) | (slide.tissue & ~large)), coarse(slide.tissue)
    return float((found & truth & counted).sum() / ((found | truth) & counted).sum())


def measure(kind: str, seed: int) -> tuple[str, dict[str, float], dict[str, float]]:
    """Return the kind, and for each method its overlap and its seconds, for one slide."""
    cv2.setNumThreads(1)
    slide = draw_stained(kind, seed, SIZE_PX, wide=True)
    overlaps, seconds = {}, {}
    for method in METHODS:
        started = time.perf_counter()
        found = find_tissue(
            ArrayReader(slide.image, mpp=slide.mpp), TissueSpec.model_validate({"method": method})
        )
        seconds[method] = time.perf_counter() - started
        overlaps[method] = overlap(slide, found.mask)
    return kind, overlaps, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60, help="slides of each kind")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    jobs = [(kind, FIRST_SEED + n) for kind in KINDS for n in range(arguments.seeds)]
    with ProcessPoolExecutor(arguments.workers) as pool:
        rows = list(pool.map(measure, *zip(*jobs, strict=True)))
    table = []
    for kind in KINDS:
        cells = [kind]
        for method in METHODS:
            values = np.array([overlaps[method] for name, overlaps, _ in rows if name == kind])
            cells += [f"{values.min():.3f}", f"{values.mean():.3f}", f"{(values < GOAL).sum()}"]
        table.append(cells)
    print(markdown_table(HEADER, table))
    ratios = [seconds["auto"] / seconds["otsu"] for _, _, seconds in rows]
    print(f"\n{arguments.seeds} slides of each kind. Time of auto / otsu, median: {np.median(ratios):.1f}")


if __name__ == "__main__":
    main()
