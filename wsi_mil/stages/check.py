"""check: read what is known of each slide, and predict its tiles, before a run starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import WsiMilError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.execution.activity import activity
from wsi_mil.execution.supervision import Death, supervise
from wsi_mil.io.tables import text_table
from wsi_mil.logs import logger
from wsi_mil.slides import SlideFile, open_slide
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue


@dataclass(frozen=True)
class CheckRow:
    """What is known of one slide, as text. tiles: how many a run would have. failed: whether a run cannot use
    it. info: None if it cannot be opened."""

    slide_id: str
    size: str = "-"
    levels: str = "-"
    mpp: str = "-"
    source: str = "-"
    bounds: str = "-"
    vendor: str = "-"
    tiles: int = 0
    problems: str = ""
    failed: bool = False
    info: SlideInfo | None = None


def check_slide(
    file: SlideFile,
    reader: str,
    mpp: float | tuple[float, float] | None,
    spec: TileSpec,
    tissue: TissueSpec | None = None,
) -> CheckRow:
    """Return what is known of a slide. Reads its pixels once, at the coarse scale at which tissue is found.

    mpp: overrides the scale of the file. spec, tissue: settings for which the tiles are predicted.
    Whatever goes wrong with one slide becomes its row, so that the table holds all slides.
    """
    try:
        return _check_slide(file, reader, mpp, spec, tissue or TissueSpec())
    except Exception as error:
        logger().debug("%s", file.path, exc_info=True)
        problem = f"cannot be checked ({type(error).__name__}: {error}): {file.path}"
        return CheckRow(file.slide_id, problems=_one_line(problem), failed=True)


@dataclass(frozen=True)
class CheckJob:
    """What `check_slide` needs for one slide, in values that pickle."""

    file: SlideFile
    reader: str
    mpp: float | tuple[float, float] | None
    spec: TileSpec

    @property
    def slide_id(self) -> str:
        return self.file.slide_id


def check_slides(jobs: Sequence[CheckJob], execution: ExecutionSpec) -> Iterator[CheckRow]:
    """Yield the row of every slide, in the order in which they finish.

    Worker processes open them: a slide that ends its process, or takes too long to open, is a row, too.
    """
    places = [""] * min(execution.resolved_workers(), len(jobs))
    yield from supervise(_checked, jobs, places, _lost, execution.open_timeout_s)


def _checked(jobs: Iterator[CheckJob], place: str) -> Iterator[CheckRow]:
    for job in jobs:
        yield check_slide(job.file, job.reader, job.mpp, job.spec)


def _lost(job: CheckJob, death: Death) -> CheckRow:
    return CheckRow(job.slide_id, problems=f"{death.reason}: {job.file.path}", failed=True)


def _check_slide(
    file: SlideFile,
    reader: str,
    mpp: float | tuple[float, float] | None,
    spec: TileSpec,
    tissue: TissueSpec,
) -> CheckRow:
    try:
        slide = open_slide(file.path, slide_id=file.slide_id, reader=reader, mpp=mpp)
    except WsiMilError as error:
        logger().debug("%s", file.path, exc_info=True)
        return CheckRow(file.slide_id, problems=_one_line(str(error)), failed=True)
    with slide:
        info = slide.info
        square = abs(info.mpp_x / info.mpp_y - 1) <= 0.01
        b = info.bounds
        known = CheckRow(
            slide_id=file.slide_id,
            size=f"{info.width_px}x{info.height_px}",
            levels="/".join(f"{d:g}" for d in (round(d, 2) for d in info.level_downsamples)),
            mpp=f"{info.mpp_x:.4g}" if square else f"{info.mpp_x:.4g}x{info.mpp_y:.4g}",
            source=info.mpp_source,
            bounds=f"{b.x0_px},{b.y0_px} {b.width_px}x{b.height_px}" if b else "-",
            vendor=f"{info.vendor} ({info.reader})",
            info=info,
        )
        problems = list(info.notes)
        try:
            with activity(file.slide_id, "finding tissue"):
                found = find_tissue(slide, tissue)
            tiles = len(tile_slide(info, found, spec))
        except WsiMilError as error:
            logger().debug("%s", file.path, exc_info=True)
            return replace(known, problems=_one_line("; ".join([*problems, str(error)])), failed=True)
        if tiles == 0:
            problems.append(f"no tissue found by {found.how}")
        return replace(known, tiles=tiles, problems=_one_line("; ".join(problems)))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def table(rows: Sequence[CheckRow]) -> str:
    """Return the rows as aligned text; the last column has the problems at full length."""
    header = ["slide", "size, px", "levels", "µm/px", "from", "bounds", "vendor", "tiles", "problems"]
    cells = [
        [
            r.slide_id,
            r.size,
            r.levels,
            r.mpp,
            r.source,
            r.bounds,
            r.vendor,
            str(r.tiles) if not r.failed else "-",
            r.problems,
        ]
        for r in rows
    ]
    return text_table([header, *cells])
