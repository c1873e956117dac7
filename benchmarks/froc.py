"""FROC of 129 slides of Camelyon's size: time and memory once detections exist, on masks and on polygons.

    python benchmarks/froc.py [--slides 129] [--detections 1000]

Slides of 100,000 x 200,000 px at 0.243 µm/px, 49 of 129 with one to eight lesions (star-shaped, 200 vertices,
0.05 to 5 mm in radius, seed 0), random detections, half of them drawn near lesions. One process. Memory is
the growth of its peak.
"""

import argparse
import resource
import time

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import Detection
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.evaluation import froc_curve
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import match_slide
from wsi_mil.io.tables import markdown_row, markdown_table

WIDTH, HEIGHT, MPP = 100_000, 200_000, 0.243
TUMOUR_SHARE = 49 / 129


def draw_lesions(rng: np.random.Generator, slide_id: str) -> list[Lesion]:
    """Return one to eight star-shaped lesions inside the slide, merged where they meet."""
    shapes = []
    for _ in range(rng.integers(1, 9)):
        radius = np.exp(rng.uniform(np.log(50), np.log(5000))) / MPP
        centre = rng.uniform(1.3 * radius, np.array([WIDTH, HEIGHT]) - 1.3 * radius)
        angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        radii = radius * (1 + 0.2 * np.sin(rng.integers(3, 9) * angles) + 0.05 * rng.uniform(-1, 1, 200))
        shapes.append(Polygon(centre + (radii * np.array([np.cos(angles), np.sin(angles)])).T).buffer(0))
    parts = shapely.get_parts(shapely.union_all(shapes))
    return [Lesion(slide_id, "tumour", MultiPolygon([part])) for part in parts]


def draw_detections(
    rng: np.random.Generator, slide_id: str, lesions: list[Lesion], count: int
) -> list[Detection]:
    points = rng.uniform(0, 1, (count, 2)) * [WIDTH, HEIGHT]
    near = [np.asarray(lesion.geometry.centroid.coords)[0] for lesion in lesions]
    if near:
        half = count // 2
        points[:half] = np.array(near)[rng.integers(0, len(near), half)] + rng.normal(0, 4000, (half, 2))
    points = np.clip(points, 0, [WIDTH - 1, HEIGHT - 1])
    return [
        Detection(slide_id, float(x), float(y), float(p))
        for (x, y), p in zip(points, rng.random(count), strict=True)
    ]


HEAD = ("lesions from", "slides", "detections", "lesions", "FROC score", "s", "growth of the peak, MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=int, default=129)
    parser.add_argument("--detections", type=int, default=1000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    slides = []
    for number in range(arguments.slides):
        slide_id = f"slide_{number:03d}"
        lesions = draw_lesions(rng, slide_id) if number < arguments.slides * TUMOUR_SHARE else []
        slides.append((slide_id, lesions, draw_detections(rng, slide_id, lesions, arguments.detections)))
    print(markdown_table(HEAD, []))
    for truth in ("polygons", "mask"):
        spec = EvaluationSpec.model_validate({"froc_truth": truth, "froc_mode": "corrected"})
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        matches = []
        for slide_id, lesions, detections in slides:
            info = SlideInfo(
                slide_id, "", ((WIDTH, HEIGHT),), (1.0,), MPP, MPP, "benchmark", None, "", "", ""
            )
            found, _ = match_slide(detections, info, lesions, spec)
            matches.append(found)
        curve = froc_curve(matches, spec.froc_mode)
        seconds = time.perf_counter() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        total = sum(len(detections) for _, _, detections in slides)
        counts = [str(len(slides)), f"{total:,}", str(curve.n_lesions)]
        print(markdown_row([truth, *counts, f"{curve.score:.6f}", f"{seconds:.1f}", f"{grown:.0f}"]))


if __name__ == "__main__":
    main()
