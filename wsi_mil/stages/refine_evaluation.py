"""After refine: compare pixel-level maps with tile scores on the slides of a run whose lesions are known."""

from collections.abc import Iterator

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.evaluation import AnnotationFolder, known_lesions
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.execution import ExecutionSpec, read_slides
from wsi_mil.execution.activity import activity
from wsi_mil.heatmaps.refined import read_refined
from wsi_mil.refine.evaluation import ComparedSlide, RefinementResult, compared_slide, evaluate_refinement
from wsi_mil.refine.evaluation_file import write_refinement
from wsi_mil.run.current import check_scores, current_refined
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import HeldOutJob, warn_of_left_out
from wsi_mil.scoring import read_slide_scores, read_tile_scores


def compare_refined(
    run: RunFolder,
    name: str,
    annotations: AnnotationFolder,
    spec: EvaluationSpec,
    execution: ExecutionSpec,
) -> RefinementResult:
    """Write evaluation/<name>/refine.json and return what it holds. The slides are read by the workers of
    `execution`.

    Slides without label or without current refined maps, and tumour slides without outlines, are left out.
    Raises DataError if no test slide is left, and MachineError for a slide that could not be read because of
    the machine.
    """
    stage = f"compare {name}"
    jobs = list(_jobs(run, name, annotations, spec))
    slides, failed = read_slides(_compare_one, jobs, stage=stage, spec=execution)
    warn_of_left_out(stage, failed, "Dice and FROC of refine")
    found = evaluate_refinement(name, list(slides.values()), spec)
    write_refinement(run.evaluation(name) / "refine.json", found)
    return found


def _jobs(
    run: RunFolder, name: str, annotations: AnnotationFolder, spec: EvaluationSpec
) -> Iterator[HeldOutJob]:
    rows, _ = read_slide_scores(run.slide_scores(name))
    for row in rows:
        if row.part not in ("val", "test") or row.label is None or current_refined(run, name, row) is None:
            continue
        outlines = annotations.find(row.slide_id) if row.positive else None
        if outlines is not None or not row.positive:
            yield HeldOutJob(row.slide_id, run.path, name, row, outlines, annotations.rules, spec)


def _compare_one(job: HeldOutJob) -> ComparedSlide:
    run, slide_id = RunFolder(job.run), job.slide_id
    info, table = run.store(slide_id).read_info(), run.store(slide_id).read_tiles()
    scores = read_tile_scores(run.tile_scores(job.name, slide_id))
    check_scores(scores, table)
    lesions: list[Lesion] = []
    if job.outlines is not None:
        with activity(slide_id, "reading its outlines"):
            lesions = known_lesions(job.outlines, slide_id, info, job.rules)
    maps = read_refined(run.refined(job.name, slide_id))
    return compared_slide(job.row, info, table, scores, maps, lesions, job.spec)
