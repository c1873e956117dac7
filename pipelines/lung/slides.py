"""Write a cohort of mosaic slides of real lung H&E with exact lesions."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.random import Generator

from pipelines.lung.drawing import draw_slide
from pipelines.lung.pools import read_pools
from pipelines.lung.spec import MPP, Centre, MosaicSpec
from wsi_mil.io.files import write_text
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.tables import csv_text
from wsi_mil.logs import progress
from wsi_mil.synthetic.writing import write_asap, write_pyramid


def write_mosaics(archive: Path, folder: Path, spec: MosaicSpec) -> None:
    """Write slides/, annotations/ (ASAP XML of the tumour slides) and labels.csv with split and centre.

    Does nothing if the folder already has the slides of `spec`. archive: lung_he.zip.
    """
    done = folder / "mosaics.json"
    if done.exists() and read_json(done) == spec.model_dump(mode="json"):
        return
    rng = np.random.default_rng(spec.seed)
    pools = read_pools(archive, rng)
    centres = draw_centres(spec, rng)
    parts = [
        (part, label) for part, count in spec.slides.items() for label in (0, 1) for _ in range(count // 2)
    ]
    numbered = list(zip(rng.permutation(len(parts)), parts, strict=True))
    rows = []
    with zipfile.ZipFile(archive) as files:
        for number, (part, label) in progress(numbered, total=len(parts), label="mosaics"):
            slide_id = f"slide_{number:03d}"
            allowed = centres_of(part, centres)
            centre = allowed[int(rng.integers(len(allowed)))]
            pixels, lesions = draw_slide(files, pools[part], label, spec, centre, rng)
            write_pyramid(folder / "slides" / f"{slide_id}.tiff", pixels, (MPP, MPP), quality=85)
            if lesions:
                outlines = [(f"lesion {i}", lesion) for i, lesion in enumerate(lesions)]
                write_asap(folder / "annotations" / f"{slide_id}.xml", outlines)
            rows.append((slide_id, label, slide_id, centre.name, part))
    columns = ("slide", "label", "patient", "centre", "split")
    write_text(folder / "labels.csv", csv_text(columns, sorted(rows)))
    write_json(done, spec.model_dump(mode="json"))


def draw_centres(spec: MosaicSpec, rng: Generator) -> list[Centre]:
    """Return the laboratories, each with its own stain gains and defocus."""
    found = []
    for number in range(spec.centres):
        gains = np.exp(rng.normal(0, spec.centre_jitter, 3))
        blur_px = float(rng.uniform(*spec.blur_px))
        found.append(Centre(f"centre_{number}", (gains[0], gains[1], gains[2]), blur_px))
    return found


def centres_of(part: str, centres: list[Centre]) -> list[Centre]:
    """Return the laboratories of one part: the second half for test slides, the first half for others."""
    half = len(centres) // 2
    if not half:
        return centres
    return centres[half:] if part == "test" else centres[:half]
