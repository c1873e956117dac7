"""Section "Slides": a table of the cohort that can be sorted and filtered, with links to each
slide's files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import StoreError
from wsi_mil.heatmaps.classes import mapped_classes
from wsi_mil.io.files import digest_file
from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill
from wsi_mil.tissue.files import BY_HAND

HEATMAP_FILES = (("PNG", "png"), ("GeoJSON", "geojson.gz"), ("GeoJSON", "geojson"), ("TIFF", "ome.tif"))
UNKNOWN = "–"
NOT_SHOWN = ("seconds", "state")


@dataclass(frozen=True)
class SlideRow:
    """One slide of the table.

    shown: its probability or prediction, by model. files: model -> pairs of (word, path relative to the
    page).
    """

    slide_id: str
    label: str
    part: str
    size_px: str
    mpp: str
    tissue_mm2: str
    tiles: str
    status: str
    shown: dict[str, float]
    files: dict[str, list[tuple[str, str]]]


def read(source: ReportSource) -> Content:
    run = source.run
    inputs = {
        "slides": source.slide_ids,
        "labels": [source.label(slide_id) for slide_id in source.slide_ids],
        "outcomes": [
            {k: v for k, v in row.as_row().items() if k not in NOT_SHOWN} for row in run.ledger.rows()
        ],
        "scores": {name: digest_file(run.slide_scores(name)) for name in source.models},
        "heatmaps": {name: run.read_index(name) for name in source.models},
    }

    def render() -> str:
        outcomes: dict[str, list[Outcome]] = {}
        for row in run.ledger.rows():
            outcomes.setdefault(row.slide_id, []).append(row)
        rows = [slide_row(source, slide_id, outcomes.get(slide_id, [])) for slide_id in source.slide_ids]
        return fill(__file__, slides=rows, models=source.models)

    return Content(inputs, render)


def slide_row(source: ReportSource, slide_id: str, outcomes: Sequence[Outcome]) -> SlideRow:
    """Return one slide's row of the table; `outcomes` are the slide's own, of every stage."""
    tiled = source.run.ledger.get(slide_id, "tile")
    counts = tiled.counts if tiled else {}
    worst = next((s for s in ("failed", "empty", "skipped") if any(o.status == s for o in outcomes)), "done")
    size_px, mpp = _size_and_scale(source, slide_id)
    scored = {name: rows[slide_id] for name, rows in source.scores.items() if slide_id in rows}
    return SlideRow(
        slide_id=slide_id,
        label=source.label(slide_id),
        part=next((row.part for row in scored.values()), ""),
        size_px=size_px,
        mpp=mpp,
        tissue_mm2=f"{counts['tissue_um2'] / 1e6:.2f}" if "tissue_um2" in counts else UNKNOWN,
        tiles=str(counts.get("tiles", UNKNOWN)),
        status=f"{worst}, {BY_HAND}" if tiled and BY_HAND in tiled.reason else worst,
        shown={name: row.shown for name, row in scored.items()},
        files={name: _files(source, name, slide_id) for name in scored},
    )


def _size_and_scale(source: ReportSource, slide_id: str) -> tuple[str, str]:
    """Return "width x height" in level-0 px, and µm/px with its source; dashes without a store."""
    try:
        info = source.run.store(slide_id).read_info()
    except StoreError:
        return UNKNOWN, UNKNOWN
    scale = f"{info.mpp_x:.4g}"
    if abs(info.mpp_x / info.mpp_y - 1) > 0.01:
        scale = f"{info.mpp_x:.4g} x {info.mpp_y:.4g}"
    return f"{info.width_px} x {info.height_px}", f"{scale} ({info.mpp_source})"


def _files(source: ReportSource, name: str, slide_id: str) -> list[tuple[str, str]]:
    """Return (word, path relative to report.html) of each heatmap file of a slide that exists."""
    run = source.run
    paths = [(word, run.heatmap(name, slide_id, suffix)) for word, suffix in HEATMAP_FILES]
    for class_name in mapped_classes(source.scheme(name)):
        paths.append((f"PNG {class_name}", run.class_heatmap(name, class_name, slide_id, "png")))
    return [(word, path.relative_to(run.path).as_posix()) for word, path in paths if path.exists()]


SECTION = Section("Slides", "cohort", 70, read, version=3)
