"""A cohort from one seed: plan, slides, labels.csv and true outlines. Only the pixels depend on the label."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
from pydantic import Field

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import DataError
from wsi_mil.execution import ExecutionSpec, map_slides, stopped_at_the_end
from wsi_mil.io.files import refuse_to_replace, write_text
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.tables import csv_text
from wsi_mil.logs import logger, progress
from wsi_mil.synthetic.anatomy import draw_anatomy
from wsi_mil.synthetic.painting import Scanner, paint, scanners
from wsi_mil.synthetic.writing import pad_to_one_size, write_asap, write_pyramid, write_truth_geojson

Odd = Literal["no_mpp", "flat", "anisotropic", "empty", "pen", "truncated"]
FORMAT = 1
COLUMNS = ["slide", "label", "patient", "centre", "stage"]


class SynthSpec(Spec):
    """A cohort of normal and tumour slides from several centres.

    width_px, height_px: smallest and largest size of a slide. odd: further slides with one defect each.
    """

    pairs: int = Field(default=20, ge=1, description="tumour slides, and as many normal ones")
    centres: int = Field(default=3, ge=1)
    seed: int = 7
    width_px: tuple[int, int] = (4200, 5600)
    height_px: tuple[int, int] = (3400, 4600)
    itc_share: float = Field(
        default=0.1, ge=0, le=1, description="tumour slides that hold isolated cells only"
    )
    macro_share: float = Field(
        default=0.15, ge=0, le=1, description="tumour slides with a macrometastasis where it fits"
    )
    odd: tuple[Odd, ...] = ()


@dataclass(frozen=True)
class SlidePlan:
    """Everything that determines one slide. lesions: (kind, grade) of each. odd: the defect of the slide."""

    slide_id: str
    patient: str
    label: int
    scanner: Scanner
    width_px: int
    height_px: int
    lesions: tuple[tuple[str, int], ...]
    seed: int
    odd: Odd | None = None


def plan_cohort(spec: SynthSpec) -> list[SlidePlan]:
    """Return the plans, sorted by id.

    For each tumour slide there is a normal slide of the same centre and size. Ids are a random permutation.
    So size, order and centre carry no information on the label.
    """
    rng = np.random.default_rng(spec.seed)
    centres = scanners(spec.centres, rng)
    sizes = [
        (int(rng.integers(*spec.width_px, endpoint=True)), int(rng.integers(*spec.height_px, endpoint=True)))
        for _ in range(-(-spec.pairs // spec.centres))
    ]
    numbers = rng.permutation(2 * spec.pairs)
    kinds = _lesion_kinds(spec, rng)
    plans = []
    for pair in range(spec.pairs):
        scanner, (width, height) = centres[pair % spec.centres], sizes[pair // spec.centres]
        # every fifth pair of a centre has the patients of the pair before, so some patients have two slides
        patient_pair = pair - spec.centres if pair // spec.centres % 5 == 4 else pair
        for label in (0, 1):
            number = int(numbers[2 * pair + label])
            plans.append(
                SlidePlan(
                    slide_id=f"slide_{number:03d}",
                    patient=f"patient_{int(numbers[2 * patient_pair + label]):03d}",
                    label=label,
                    scanner=scanner,
                    width_px=width,
                    height_px=height,
                    lesions=kinds[pair] if label else (),
                    seed=int(rng.integers(2**31)),
                )
            )
    for odd in spec.odd:
        width, height = sizes[0]
        seed = int(rng.integers(2**31))
        lesions = () if odd == "empty" else (("micro", 2),)
        plans.append(
            SlidePlan(
                f"odd_{odd}",
                f"patient_{odd}",
                int(bool(lesions)),
                centres[0],
                width,
                height,
                lesions,
                seed,
                odd,
            )
        )
    return sorted(plans, key=lambda plan: plan.slide_id)


def _lesion_kinds(spec: SynthSpec, rng: np.random.Generator) -> list[tuple[tuple[str, int], ...]]:
    """Return the lesions (kind, grade) of each tumour slide, in random order; fractions are of the cohort."""
    itc, macro = round(spec.itc_share * spec.pairs), round(spec.macro_share * spec.pairs)
    slides = []
    for number in range(spec.pairs):
        grade = int(rng.integers(1, 4))
        if number < itc:
            kinds = ["itc"] * int(rng.integers(2, 5))
        elif number < itc + macro:
            kinds = ["macro", "micro"]
        else:
            kinds = ["micro"] * int(rng.integers(1, 4)) + ["itc"] * int(rng.integers(0, 2))
        slides.append(tuple((kind, grade) for kind in kinds))
    return [slides[int(i)] for i in rng.permutation(spec.pairs)]


def write_cohort(folder: Path, spec: SynthSpec, execution: ExecutionSpec | None = None) -> Path:
    """Write slides/, annotations/ (ASAP XML and GeoJSON) and labels.csv below `folder`; return labels.csv.

    Does nothing if the folder has this cohort already. Raises DataError if it has another one or if a slide
    fails.
    """
    stamp = folder / "cohort.json"
    identity = {
        "kind": "synthetic cohort",
        "format": FORMAT,
        "spec": spec.model_dump(mode="json"),
        "digest": spec.digest(),
    }
    if stamp.exists():
        if read_json(stamp) == identity:
            return folder / "labels.csv"
        raise DataError(
            f"{folder} holds another synthetic cohort (see {stamp.name}): remove it or choose another folder"
        )
    _refuse_other_files(folder)
    plans = plan_cohort(spec)
    jobs = map_slides(
        partial(_write_slide, folder), plans, stage="synth", spec=execution or ExecutionSpec(workers=1)
    )
    with stopped_at_the_end(jobs):
        outcomes = list(progress(jobs, total=len(plans), label="synth"))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        logger().debug("%s", failed[0].traceback)
        raise DataError(
            f"{len(failed)} of {len(plans)} synthetic slides failed; the first is {failed[0].slide_id}: "
            f"{failed[0].reason}"
        )
    pad_to_one_size([_slide_path(folder, plan) for plan in plans if plan.odd is None])
    kinds = {outcome.slide_id: outcome.digest for outcome in outcomes}
    write_text(folder / "labels.csv", _labels(plans, kinds))
    write_json(stamp, identity)
    return folder / "labels.csv"


def _slide_path(folder: Path, plan: SlidePlan) -> Path:
    return folder / "slides" / f"{plan.slide_id}.tiff"


def _write_slide(folder: Path, plan: SlidePlan) -> Outcome:
    tissue_rng, lesion_rng, paint_rng = (np.random.default_rng([plan.seed, stream]) for stream in range(3))
    mpp = plan.scanner.mpp
    mpp_xy = (mpp * 0.8, mpp) if plan.odd == "anisotropic" else (mpp, mpp)
    anatomy = draw_anatomy(
        plan.width_px * mpp_xy[0],
        plan.height_px * mpp_xy[1],
        list(plan.lesions),
        tissue_rng,
        lesion_rng,
        pen=plan.odd == "pen",
        empty=plan.odd == "empty",
    )
    if plan.lesions and not anatomy.lesions:
        raise DataError(
            f"no lesion fits on a slide of {plan.width_px} x {plan.height_px} px: make slides larger"
        )
    path = _slide_path(folder, plan)
    factor = 0 if plan.odd == "flat" else plan.scanner.pyramid_factor
    write_pyramid(
        path,
        paint(anatomy, plan.scanner, paint_rng, mpp_xy),
        None if plan.odd == "no_mpp" else mpp_xy,
        factor=factor,
        quality=plan.scanner.jpeg_quality,
    )
    if plan.odd == "truncated":
        with path.open("rb+") as handle:
            handle.truncate(path.stat().st_size // 3)
    outlines = [
        (
            f"{lesion.kind} grade {lesion.grade}",
            shapely.transform(lesion.outline, lambda xy: xy / np.array(mpp_xy)),
        )
        for lesion in anatomy.lesions
    ]
    if outlines:
        write_asap(folder / "annotations" / f"{plan.slide_id}.xml", outlines)
        write_truth_geojson(folder / "annotations" / f"{plan.slide_id}.geojson", plan.slide_id, outlines)
    order = ["itc", "micro", "macro"]
    largest = max((lesion.kind for lesion in anatomy.lesions), key=order.index, default="negative")
    return Outcome(plan.slide_id, "synth", "done", counts={"lesions": len(outlines)}, digest=largest)


def _labels(plans: Sequence[SlidePlan], kinds: dict[str, str]) -> str:
    rows = [
        (plan.slide_id, plan.label, plan.patient, plan.scanner.name, kinds[plan.slide_id]) for plan in plans
    ]
    return csv_text(COLUMNS, rows)


def _refuse_other_files(folder: Path) -> None:
    """Raise StoreError for a labels.csv of other columns: a cohort that was not finished has ours or none."""
    labels = folder / "labels.csv"
    if labels.exists() and not labels.read_bytes().startswith(csv_text(COLUMNS, []).encode()):
        refuse_to_replace(folder, (labels.name,))
