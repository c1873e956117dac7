"""report: gather what the run folder holds and render the page."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wsi_mil.bags.labels import LabelTable
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import StoreError
from wsi_mil.io.files import digest_file, digest_json, read_json, write_text
from wsi_mil.report import ReportFinding, ReportModel, ReportSlide, draw_curves, render_report
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.trainings import summarise
from wsi_mil.scoring import read_slide_scores
from wsi_mil.stages.evaluate import FORMAT as METRICS_FORMAT
from wsi_mil.stages.false_positives import false_positive_crops

PAGE = 7  # changes with the page's form: reports of earlier versions are written again


def run_report(
    run: RunFolder,
    sources: Sequence[SlideSource],
    reader: str,
    labels: LabelTable | None,
    names: Sequence[str],
) -> bool:
    """Write report.html; return False if it is up to date."""
    names = [name for name in names if run.slide_scores(name).exists()]
    scores = {
        name: {row.slide_id: row for row in read_slide_scores(run.slide_scores(name))[0]} for name in names
    }
    metrics = {name: _metrics(run, name) for name in names}
    provenance = read_json(run.path / "provenance.json")
    comparison = summarise(run.comparison) if run.comparison.exists() else []
    evaluated = {name for name, found in metrics.items() if found is not None}
    if all(row[1] == "1" and row[0] in evaluated for row in comparison[1:]):
        comparison = []  # one training a model, and each evaluated: the table above says it all
    refinements = {name: found for name in names if (found := _refinement(run, name)) is not None}
    audits, poisons = _audits(run, names), _findings(run.path / "poison", "*/poison.json", "poison.png")
    known = sorted({*(source.slide_id for source in sources), *(row.slide_id for row in run.ledger.rows())})
    inputs = digest_json(
        {
            "ledger": [
                {k: v for k, v in row.as_row().items() if k != "seconds"} for row in run.ledger.rows()
            ],
            "scores": {name: digest_file(run.slide_scores(name)) for name in names},
            "metrics": metrics,
            "refinements": refinements,
            "page": PAGE,
            "heatmaps": {name: run.read_index(name) for name in names},
            "provenance": provenance,
            "comparison": comparison,
            "findings": [finding.found for finding in (*audits, *poisons)],
            "slides": known,
        }
    )
    mark = f"<!-- inputs {inputs} -->"
    if run.report.exists() and run.report.read_text(encoding="utf-8").endswith(mark + "\n"):
        return False
    outcomes: dict[str, list[Outcome]] = {}
    for row in run.ledger.rows():
        outcomes.setdefault(row.slide_id, []).append(row)
    slides = [_slide(run, slide_id, labels, scores, outcomes.get(slide_id, [])) for slide_id in known]
    stages = {
        stage: f"{stage}: {run.ledger.summary(stage)}"
        for stage in ("tile", "extract")
        if run.ledger.rows(stage)
    }
    models = [
        ReportModel(
            name,
            found,
            _missed(run, name),
            false_positive_crops(run, name, sources, reader),
            refinements.get(name),
        )
        if found
        else ReportModel(name, None)
        for name, found in metrics.items()
    ]
    config = run.path / "config.yaml"
    page = render_report(
        title=f"wsi_mil report: {run.path.name}",
        slides=slides,
        models=models,
        problems=run.ledger.problems(),
        stages=stages,
        provenance=provenance,
        config_text=config.read_text(encoding="utf-8") if config.exists() else yaml.safe_dump({}),
        curves_png=_curves(run, models),
        comparison=comparison,
        audits=audits,
        poisons=poisons,
    )
    write_text(run.report, f"{page}\n{mark}\n")
    return True


def _metrics(run: RunFolder, name: str) -> dict[str, Any] | None:
    """Metrics in today's form; those of an earlier version count as absent until `evaluate` makes them again."""
    path = run.evaluation(name) / "metrics.json"
    found = dict(read_json(path)) if path.exists() else {}
    return found if found.get("format_version") == METRICS_FORMAT else None


def _refinement(run: RunFolder, name: str) -> dict[str, Any] | None:
    """Dice and FROC of the refined maps, unless the model was trained again since."""
    path = run.evaluation(name) / "refine.json"
    if not path.exists():
        return None
    found = dict(read_json(path))
    digests = {row.model_digest for row in read_slide_scores(run.slide_scores(name))[0]}
    return found if set(found["model_digests"]) <= digests else None


def _audits(run: RunFolder, names: Sequence[str]) -> list[ReportFinding]:
    """The audits of today's models; that of a model which was trained again since is not shown."""
    found = []
    for name in names:
        digests = {row.model_digest for row in read_slide_scores(run.slide_scores(name))[0]}
        audits = _findings(run.path / "audit", f"{name}/audit.json", "curves.png")
        found += [audit for audit in audits if set(audit.found["model_digests"]) <= digests]
    return found


def _findings(folder: Path, pattern: str, picture: str) -> list[ReportFinding]:
    paths = sorted(folder.glob(pattern)) if folder.is_dir() else []
    pictures = [path.with_name(picture) for path in paths]
    return [
        ReportFinding(read_json(path), png.read_bytes() if png.exists() else None)
        for path, png in zip(paths, pictures, strict=True)
    ]


def _missed(run: RunFolder, name: str) -> list[dict[str, Any]]:
    """The lesions that count and were not found, largest first."""
    path = run.evaluation(name) / "lesions.csv"
    if not path.exists():
        return []
    with path.open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["counted"] == "True" and row["found"] == "False"]
    return [{**row, "probability": float(row["probability"])} for row in reversed(rows)]


def _curves(run: RunFolder, models: Sequence[ReportModel]) -> bytes | None:
    """All models' curves in one picture."""
    found = {m.name: (run.evaluation(m.name) / "curves.json", m.metrics) for m in models if m.metrics}
    if not found:
        return None
    path: Path = run.path / "evaluation" / "curves.png"
    curves = {
        name: read_json(file) | {"calibration": metrics["slide"]["calibration"]}
        for name, (file, metrics) in found.items()
        if file.exists()
    }
    draw_curves(curves, path)
    return path.read_bytes()


def _slide(
    run: RunFolder,
    slide_id: str,
    labels: LabelTable | None,
    scores: dict[str, dict[str, SlideScoreRow]],
    outcomes: Sequence[Outcome],
) -> ReportSlide:
    row = labels.rows.get(slide_id) if labels else None
    tiled = run.ledger.get(slide_id, "tile")
    worst = next(
        (o.status for s in ("failed", "empty", "skipped") for o in outcomes if o.status == s), "done"
    )
    try:
        info = run.store(slide_id).read_info()
        size, mpp = f"{info.width_px} x {info.height_px}", f"{info.mpp_x:.4g} ({info.mpp_source})"
        if abs(info.mpp_x / info.mpp_y - 1) > 0.01:
            mpp = f"{info.mpp_x:.4g} x {info.mpp_y:.4g} ({info.mpp_source})"
    except StoreError:
        size = mpp = "–"
    mine = {name: rows[slide_id] for name, rows in scores.items() if slide_id in rows}
    preview = run.preview(slide_id)
    return ReportSlide(
        slide_id=slide_id,
        label=labels.class_names[row.label] if labels and row and row.label is not None else "",
        part=next((found.part for found in mine.values()), ""),
        size_px=size,
        mpp=mpp,
        tissue_mm2=f"{tiled.counts.get('tissue_um2', 0) / 1e6:.2f}" if tiled else "–",
        tiles=str(tiled.counts.get("tiles", "–")) if tiled else "–",
        status=worst,
        probabilities={name: found.probability for name, found in mine.items()},
        predicted={name: found.predicted for name, found in mine.items()},
        preview=preview if preview.exists() else None,
        overlays={name: path for name in mine if (path := run.heatmap(name, slide_id, "png")).exists()},
        links={name: _links(run, name, slide_id) for name in mine},
    )


def _links(run: RunFolder, name: str, slide_id: str) -> list[tuple[str, str]]:
    """Word and path, seen from report.html, of each heatmap file that is there."""
    files = (("PNG", "png"), ("GeoJSON", "geojson.gz"), ("GeoJSON", "geojson"), ("TIFF", "ome.tif"))
    paths = [(word, run.heatmap(name, slide_id, suffix)) for word, suffix in files]
    return [(word, path.relative_to(run.path).as_posix()) for word, path in paths if path.exists()]
