"""wsi-mil check SLIDES, wsi-mil check RUN [--deep]"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_mil.cli.exit_codes import EXIT_SOME_FAILED
from wsi_mil.cli.parameters import PATH_OR_URL, TYPED_NAME, trust_option
from wsi_mil.io.remote import Location

if TYPE_CHECKING:
    from wsi_mil.contracts.slide import SlideInfo
    from wsi_mil.slides import SlideFile

POSITION = 40
SUMMARY = "open every slide, print what is known of it and what is wrong"


@click.command(
    "check",
    epilog="Example: wsi-mil check slides/ --tile-mpp 0.5 --tile-px 256; wsi-mil check runs/demo --deep",
)
@click.argument("slides", type=PATH_OR_URL)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Labels CSV: its slide ids are compared with the files, its mpp column is used.",
)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="Folder of annotation files: prints for each what is a lesion, what is not and why.",
)
@click.option(
    "--lesion-class",
    "lesion_classes",
    multiple=True,
    help="As slides.lesion_classes: a class (name or pattern) that is a lesion. May be repeated.",
)
@click.option("--mpp", type=float, help="µm/px for slides that do not state theirs.")
@click.option("--reader", type=TYPED_NAME, default="auto", show_default=True)
@click.option("--tile-mpp", default=0.5, show_default=True, help="µm/px of the tiles to predict.")
@click.option("--tile-px", default=256, show_default=True, help="Side of the tiles to predict.")
@click.option("--workers", default=0, show_default=True, help="Processes; 0: one per core.")
@click.option(
    "--deep",
    is_flag=True,
    help="For a run folder: read every byte of its features and files and compare it with its digest.",
)
@trust_option
@click.pass_context
def command(
    context: click.Context,
    slides: Location,
    labels: Path | None,
    annotations: Path | None,
    lesion_classes: tuple[str, ...],
    mpp: float | None,
    reader: str,
    tile_mpp: float,
    tile_px: int,
    workers: int,
    deep: bool,
) -> None:
    """Open every slide of SLIDES; print size, levels, scale and its source, bounds, vendor, predicted tiles,
    problems.

    If SLIDES is a run folder: check that the store of every slide is complete and undamaged.
    """
    from wsi_mil.run.integrity import is_run

    if isinstance(slides, Path) and is_run(slides):
        context.exit(_check_run(slides, deep))
    if annotations is None and lesion_classes:
        raise click.UsageError("--lesion-class is for --annotations FOLDER")
    if deep:
        raise click.UsageError(f"--deep is for run folders, and {slides} is not one")
    from wsi_mil.bags import read_labels
    from wsi_mil.bags.labels import check_against_slides
    from wsi_mil.config.loading import checked
    from wsi_mil.contracts.tiles import TileSpec
    from wsi_mil.execution import ExecutionSpec, stopped_at_the_end
    from wsi_mil.execution.processes import start_server
    from wsi_mil.logs import progress
    from wsi_mil.slides import find_slides
    from wsi_mil.stages.check import CheckJob, check_slides, table
    from wsi_mil.tasks import TaskSpec

    start_server("wsi_mil.stages.check")
    spec = checked(TileSpec, {"mpp": tile_mpp, "size_px": tile_px})
    files = find_slides(slides)
    found = read_labels(labels, spec=TaskSpec(kind="classification")) if labels else None
    overrides = {file.slide_id: (found.mpp_of(file.slide_id) if found else None) or mpp for file in files}
    jobs = [CheckJob(file, reader, overrides[file.slide_id], spec) for file in files]
    checked_rows = check_slides(jobs, ExecutionSpec(workers=workers))
    with stopped_at_the_end(checked_rows):
        by_id = {row.slide_id: row for row in progress(checked_rows, total=len(files), label="check")}
    rows = [by_id[file.slide_id] for file in files]
    click.echo(table(rows))
    failed = [row for row in rows if row.failed]
    if found and labels:
        without_slide, without_label = check_against_slides(found, {file.slide_id for file in files}, labels)
        click.echo(
            f"labels: {_some(without_slide)} without slide; slides without label: {_some(without_label)}"
        )
        click.echo(_meaning(labels))
    usable, tiles = len(rows) - len(failed), sum(row.tiles for row in rows)
    click.echo(f"{usable} of {len(rows)} slides can be used; {tiles} tiles predicted")
    infos = {row.slide_id: row.info for row in rows}
    refused = _check_annotations(annotations, lesion_classes, files, infos) if annotations else 0
    context.exit(EXIT_SOME_FAILED if failed or refused else 0)


def _check_annotations(
    folder: Path,
    lesion_classes: tuple[str, ...],
    files: "list[SlideFile]",
    infos: "dict[str, SlideInfo | None]",
) -> int:
    """Print what the annotation files hold; return how many cannot be read."""
    from wsi_mil.evaluation.annotations import AnnotationFolder
    from wsi_mil.stages.check_annotations import annotation_summary, annotation_table, check_annotation

    known = AnnotationFolder(folder, lesion_classes=lesion_classes)
    found = [check_annotation(file, known, infos[file.slide_id]) for file in files]
    rows = [row for row in found if row is not None]
    lines = annotation_summary(rows, [file.slide_id for file in files], folder)
    click.echo("\n" + annotation_table(rows) if rows else "")
    for line in lines:
        click.echo(line)
    return sum(row.failed for row in rows)


def _some(slide_ids: Sequence[str]) -> str:
    """Return how many slides there are, and the first three ids."""
    return str(len(slide_ids)) + (
        f" ({', '.join(slide_ids[:3])}{', ..' * (len(slide_ids) > 3)})" if slide_ids else ""
    )


def _meaning(labels: Path) -> str:
    """Return which class a run would take as positive, or what it would ask for."""
    from wsi_mil.bags import read_labels
    from wsi_mil.errors import ConfigError

    try:
        return read_labels(labels).line
    except ConfigError as error:
        return f"labels: {error}"


def _check_run(run: Path, deep: bool) -> int:
    from wsi_mil.logs import progress
    from wsi_mil.run.integrity import check_store, edited_outlines, network_lines, store_table, stores_of
    from wsi_mil.tissue.files import BY_HAND

    stores = stores_of(run)
    rows = [check_store(store, deep) for store in progress(stores, total=len(stores), label="check")]
    click.echo(store_table(rows))
    damaged = sum(bool(row.problem) for row in rows)
    how = "every byte compared with its digest" if deep else "features not read; --deep reads them"
    click.echo(f"{len(rows) - damaged} of {len(rows)} stores are whole ({how})")
    for line in network_lines(rows):
        click.echo(line)
    if edited := edited_outlines(run):
        slides = "slide" if len(edited) == 1 else "slides"
        click.echo(f"{BY_HAND} of {len(edited)} {slides}: {', '.join(edited)}")
    if deep:
        from wsi_mil.run.file_checks import check_files

        found = check_files(run)
        for problem in found.problems:
            click.echo(problem)
        click.echo(f"{found.files - len(found.problems)} of {found.files} other files are what was written")
        damaged += len(found.problems)
    return EXIT_SOME_FAILED if damaged else 0
