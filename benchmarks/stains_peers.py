"""How well the tissue rules of other packages find the drawn tissue of `benchmarks/stains.py`.

python benchmarks/stains_peers.py [--seeds N] [--workers N]

TIAToolbox is used itself where it is installed beside wsi_mil. The rules of CLAM and HistomicsTK are written
here from their published code, with its default values; their limits on the size of pieces are those of large
slides and would remove whole drawings, so CLAM's is left out.
"""

import argparse
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec

import cv2
import numpy as np

from benchmarks.stains import FIRST_SEED, GOAL, SIZE_PX, overlap
from wsi_mil.contracts.arrays import RGB, Mask
from wsi_mil.io.tables import markdown_table
from wsi_mil.slides import ArrayReader
from wsi_mil.synthetic.stained import KINDS, draw_stained
from wsi_mil.tissue import TissueSpec, find_tissue

Rule = Callable[[RGB, float], Mask]
"""An image (H, W, 3) at so many µm/px -> its tissue (H, W), or at another scale."""


def auto(image: RGB, mpp: float) -> Mask:
    """Our default."""
    return find_tissue(ArrayReader(image, mpp=mpp), TissueSpec()).mask


def clam(image: RGB, mpp: float) -> Mask:
    """`segmentTissue` with the values of `create_patches_fp.py`: saturation above 8 after a median of 7 px,
    closed with a square of 4 px. Lu et al., Nature Biomedical Engineering 2021; github.com/mahmoodlab/CLAM.
    """
    saturation = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[:, :, 1], 7)
    found = (saturation > 8).astype(np.uint8)
    closed = cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((4, 4), np.uint8))
    return np.asarray(closed > 0, np.bool_)


def histomicstk(image: RGB, mpp: float) -> Mask:
    """`saliency.tissue_detection.get_tissue_mask`: inverted grey from Otsu's threshold of its values above 0
    on, pieces of at least 500 px. github.com/DigitalSlideArchive/HistomicsTK."""
    from skimage.filters import threshold_otsu
    from skimage.measure import label

    grey = 255 - cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # as there, whatever the order of the colours
    values = grey[grey > 0]
    pieces = label(grey >= threshold_otsu(values) if len(np.unique(values)) > 1 else grey > 0, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(sizes[pieces] >= 500, np.bool_)


def tiatoolbox_otsu(image: RGB, mpp: float) -> Mask:
    """TIAToolbox's OtsuTissueMasker."""
    from tiatoolbox.tools.tissuemask import OtsuTissueMasker

    return np.asarray(OtsuTissueMasker().fit_transform(image[None])[0], np.bool_)


def tiatoolbox_morphological(image: RGB, mpp: float) -> Mask:
    """TIAToolbox's MorphologicalMasker at the scale of the image."""
    from tiatoolbox.tools.tissuemask import MorphologicalMasker

    return np.asarray(MorphologicalMasker(mpp=mpp).fit_transform(image[None])[0], np.bool_)


OWN: Mapping[str, Rule] = {"auto": auto, "CLAM's rule": clam, "HistomicsTK's rule": histomicstk}
TIATOOLBOX: Mapping[str, Rule] = {
    "TIAToolbox Otsu": tiatoolbox_otsu,
    "TIAToolbox morphological": tiatoolbox_morphological,
}


def rules() -> dict[str, Rule]:
    """Return the rules that can be run here, by name."""
    return {**OWN, **(TIATOOLBOX if find_spec("tiatoolbox") else {})}


def measure(kind: str, seed: int) -> tuple[str, dict[str, float]]:
    """Return the kind, and the overlap of each rule with the tissue of one drawing."""
    cv2.setNumThreads(1)
    slide = draw_stained(kind, seed, SIZE_PX, wide=True)
    return kind, {name: overlap(slide, rule(slide.image, slide.mpp)) for name, rule in rules().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60, help="slides of each kind")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if len(rules()) == len(OWN):
        print("TIAToolbox is left out: it is not installed (pip install tiatoolbox)\n")
    jobs = [(kind, FIRST_SEED + n) for kind in KINDS for n in range(arguments.seeds)]
    with ProcessPoolExecutor(arguments.workers) as pool:
        rows = list(pool.map(measure, *zip(*jobs, strict=True)))
    found = {
        (kind, rule): np.array([overlaps[rule] for name, overlaps in rows if name == kind])
        for kind in KINDS
        for rule in rules()
    }
    header = ["kind", *(f"{rule}: least, mean" for rule in rules())]
    table = [
        [kind, *(f"{found[kind, rule].min():.2f}, {found[kind, rule].mean():.2f}" for rule in rules())]
        for kind in KINDS
    ]
    missed = [sum(int((found[kind, rule] < GOAL).sum()) for kind in KINDS) for rule in rules()]
    table.append([f"slides below {GOAL}", *map(str, missed)])
    print(markdown_table(header, table))
    print(f"\n{arguments.seeds} slides of each kind, seeds from {FIRST_SEED}")


if __name__ == "__main__":
    main()
