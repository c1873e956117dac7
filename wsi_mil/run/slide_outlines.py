"""Outlines of the slides of a run, read by worker processes: a file that ends its process, or is damaged, is
left out by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.evaluation import AnnotationRules, known_lesions, read_annotations, tile_overlap
from wsi_mil.execution import ExecutionSpec, read_slides
from wsi_mil.execution.activity import activity
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import warn_of_left_out

R = TypeVar("R")


@dataclass(frozen=True)
class OutlineJob:
    """The annotation file of a slide, in values that pickle. run: the folder of the run."""

    slide_id: str
    run: Path
    outlines: Path
    rules: AnnotationRules


def read_outlines(
    function: Callable[[OutlineJob], R],
    run: RunFolder,
    outlines: Mapping[str, Path],
    rules: AnnotationRules,
    *,
    stage: str,
    used_for: str,
    execution: ExecutionSpec,
) -> dict[str, R]:
    """Return `function` of each slide, in the order of `outlines`.

    function: `outlined_lesions`, `found_lesions` or `outlined_shares`. outlines: slide id -> annotation file.
    The workers of `execution` read the files. A slide whose file cannot be read, or gives no lesion where one
    is expected, is left out, with a warning that names it and `used_for`. Raises MachineError for one that
    could not be read because of the machine.
    """
    jobs = [OutlineJob(slide_id, run.path, path, rules) for slide_id, path in outlines.items()]
    found, failed = read_slides(function, jobs, stage=stage, spec=execution)
    warn_of_left_out(stage, failed, used_for)
    return found


def outlined_lesions(job: OutlineJob) -> tuple[Lesion, ...]:
    """Return the lesions of a slide, at least one. Raises DataError if its file gives none."""
    with activity(job.slide_id, "reading its outlines"):
        info = RunFolder(job.run).store(job.slide_id).read_info()
        return tuple(known_lesions(job.outlines, job.slide_id, info, job.rules))


def found_lesions(job: OutlineJob) -> tuple[Lesion, ...]:
    """Return the lesions in the file of a slide that need not have one. Raises DataError as
    `read_annotations`."""
    with activity(job.slide_id, "reading its outlines"):
        info = RunFolder(job.run).store(job.slide_id).read_info()
        bounds, classes = job.rules.bounds, job.rules.lesion_classes
        return tuple(read_annotations(job.outlines, job.slide_id, info, bounds, classes))


def outlined_shares(job: OutlineJob) -> NDArray[np.float64]:
    """Return which fraction of each tile (N,) lies on a lesion. Raises DataError as `outlined_lesions`."""
    lesions = outlined_lesions(job)
    return tile_overlap(RunFolder(job.run).store(job.slide_id).read_tiles(), lesions)
