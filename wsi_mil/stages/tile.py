"""tile: find the tissue of every slide, lay a grid of tiles over it, and draw a preview."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.qupath import QuPathSpec
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.errors import DataError
from wsi_mil.execution import map_slides
from wsi_mil.execution.activity import activity
from wsi_mil.features import SlideStore
from wsi_mil.io.files import digest_json
from wsi_mil.io.images import write_jpeg
from wsi_mil.io.seals import DamagedFileError, current_digest
from wsi_mil.logs import logger
from wsi_mil.run.context import RunContext
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.killed import without_killers
from wsi_mil.run.recording import record_outcomes
from wsi_mil.run.states import (
    FileState,
    digest_of_states,
    settings_digest,
    states_below,
    states_of,
    without_unchanged,
)
from wsi_mil.slides import SlideReader, open_slide, read_scaled
from wsi_mil.slides.state import FileState as SlideFileState
from wsi_mil.slides.state import file_states
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, draw_preview, find_tissue, read_tissue, write_tissue
from wsi_mil.tissue.files import tissue_digest

PREVIEW_PX = 900


@dataclass(frozen=True)
class TileJob:
    """What `tile_one` needs, in values that pickle. It needs no GPU."""

    slide_id: str
    source: SlideSource
    reader: str
    run: Path
    tissue: TissueSpec
    tiles: TileSpec
    qupath: QuPathSpec

    def state(self, run: RunFolder, slide: Sequence[SlideFileState], outline: FileState | None) -> str:
        """Return the digest of settings and files, with the slide's files and the outline as they were
        read."""
        made = states_of(run, [f"previews/{self.slide_id}.jpg", f"slides/{self.slide_id}.zarr/zarr.json"])
        made += states_below(run, f"slides/{self.slide_id}.zarr/tiles")
        specs = settings_digest(self.tissue, self.tiles, self.qupath)
        read = [FileState(file.size_bytes, file.mtime_ns, file.inode) for file in slide]
        settings = [str(self.source.path), self.source.mpp, self.reader, specs]
        return digest_of_states(settings, read, [outline, *made])


def state_now(run: RunFolder, job: TileJob) -> str:
    """Return `TileJob.state` of the files that are there now; "" for a slide behind a URL."""
    if not isinstance(job.source.path, Path):
        return ""
    try:
        slide = file_states(job.source.path)
    except OSError:
        return ""
    return job.state(run, slide, _outline_state(run, job.slide_id))


def _outline_state(run: RunFolder, slide_id: str) -> FileState | None:
    [found] = states_of(run, [f"tissue/{slide_id}.geojson"])
    return found


def tile_one(job: TileJob) -> Outcome:
    """Find the tissue (or read the outline that the user edited), lay the tile grid, write table, outline and
    preview.

    The result depends on the job and on the files that it names, and on nothing else.
    """
    started = time.perf_counter()
    run = RunFolder(job.run)
    store = run.store(job.slide_id)
    with open_slide(job.source.file, slide_id=job.slide_id, reader=job.reader, mpp=job.source.mpp) as slide:
        info = slide.info
        tissue, outline = _tissue(slide, run, job)
        source = slide.source_digest
        made_from = digest_json(
            {
                "levels": info.level_sizes_px,
                "mpp": [info.mpp_x, info.mpp_y],
                "source": source,
                "tissue": tissue_digest(tissue),
                "tiles": job.tiles.digest(),
            }
        )
        preview = run.preview(job.slide_id)
        stored = _stored_tiles(store, made_from, preview)
        reused = stored is not None
        table = stored if stored is not None else tile_slide(info, tissue, job.tiles)
        if not reused:
            with activity(job.slide_id, "drawing the preview"):
                _write_preview(preview, slide, tissue, table)
            with activity(job.slide_id, "writing tiles"):
                store.write_tiles(table, info, made_from, source, current_digest(preview))
        files = slide.state.files if slide.state is not None else ()
        state = job.state(run, files, outline) if files else ""
    area_um2 = tissue.polygons.area * info.mpp_x * info.mpp_y
    prefix = "" if tissue.source == "user" else "tissue by "
    reason = f"{prefix}{tissue.how}" if tissue.how else ""
    if len(table) == 0:
        empty = "no tissue" if tissue.polygons.is_empty else "no tile with enough tissue"
        reason = f"{empty}: {tissue.how}" if tissue.how else empty
    return Outcome(
        job.slide_id,
        "tile",
        "done" if len(table) else "empty",
        reason,
        {"tiles": len(table), "tissue_um2": round(area_um2)},
        table.digest(),
        time.perf_counter() - started,
        reused,
        state=state,
    )


def _stored_tiles(store: SlideStore, made_from: str, preview: Path) -> TileTable | None:
    """Return the stored tile table if it was made from the same, and it and its preview are what was
    written."""
    try:
        if store.made_from() != made_from or store.preview() not in (None, current_digest(preview)):
            return None
        store.read_info()
        return store.read_tiles() if preview.exists() else None
    except DamagedFileError as error:
        logger().warning("tile: tiles of slide %s are made again: %s", store.slide_id, error)
        return None


def _tissue(slide: SlideReader, run: RunFolder, job: TileJob) -> tuple[TissueMask, FileState | None]:
    """Return the tissue in the outline file, and the state in which the file was read; if there is no file,
    find the tissue and write the file first."""
    outline, state = run.tissue(job.slide_id), _outline_state(run, job.slide_id)
    tissue = read_tissue(outline, slide.info, job.tissue, job.qupath)
    if tissue is None:
        with activity(job.slide_id, "finding tissue"):
            found = find_tissue(slide, job.tissue)
        slide.check_unchanged()  # later runs take the outline as it is
        with activity(job.slide_id, "writing the outline of the tissue"):
            write_tissue(outline, found, slide.info, job.tissue, job.qupath)
        state = _outline_state(run, job.slide_id)
        tissue = read_tissue(outline, slide.info, job.tissue, job.qupath)
    if tissue is None:
        raise DataError(f"{outline} was written and cannot be read again: remove it and run `wsi-mil tile`")
    return tissue, state


def _write_preview(path: Path, slide: SlideReader, tissue: TissueMask, table: TileTable) -> None:
    info = slide.info
    longer_um = max(info.width_px * info.mpp_x, info.height_px * info.mpp_y)
    thumbnail = read_scaled(slide, max(longer_um / PREVIEW_PX, info.mpp))
    slide.check_unchanged()
    size0_px = (table.plan.tile_width0_px, table.plan.tile_height0_px)
    picture = draw_preview(thumbnail, info, tissue, table.coords, size0_px)
    write_jpeg(path, picture, 85)


def run(context: RunContext) -> int:
    """Tile all slides; return how many needed work. A run with imported features has its tiles already."""
    config = context.config
    if config.imported:
        return 0
    jobs = [
        TileJob(
            slide_id=source.slide_id,
            source=source,
            reader=config.slides.reader,
            run=context.run.path,
            tissue=config.tissue,
            tiles=config.tiles,
            qupath=config.qupath,
        )
        for source in context.slides
    ]
    work = partial(map_slides, tile_one, stage="tile", spec=config.execution)
    outcomes = without_unchanged(
        context.run,
        "tile",
        jobs,
        partial(state_now, context.run),
        lambda waiting: without_killers(context.run, "tile", waiting, work),
    )
    worked = record_outcomes(context.run, "tile", outcomes, len(jobs))
    for row in context.empty_labelled():
        logger().warning("tile: labelled slide %s has no tiles: %s", row.slide_id, row.reason)
    return worked
