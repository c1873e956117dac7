"""report.html from plain records: knows neither models nor slides, only what is to be shown."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.evaluation.table import MetricEntry


@dataclass(frozen=True)
class ReportSlide:
    """One slide of the cohort table; `overlays`: model -> PNG file; `links`: model -> (word, path below the run)."""

    slide_id: str
    label: str
    part: str
    size_px: str
    mpp: str
    tissue_mm2: str
    tiles: str
    status: str
    probabilities: dict[str, float] = field(default_factory=dict)
    predicted: dict[str, bool] = field(default_factory=dict)
    preview: Path | None = None
    overlays: dict[str, Path] = field(default_factory=dict)
    links: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Crop:
    """A false positive: where, how sure, and what is to be seen there (JPEG bytes)."""

    slide_id: str
    x0_px: int
    y0_px: int
    probability: float
    jpeg: bytes


@dataclass(frozen=True)
class ReportModel:
    """One model: the metrics of metrics.json (None where there are none), missed lesions by size, false positives; what refine.json says
    of its pixel-level maps."""

    name: str
    metrics: dict[str, Any] | None
    missed: Sequence[dict[str, Any]] = ()
    crops: Sequence[Crop] = ()
    refinement: dict[str, Any] | None = None


@dataclass(frozen=True)
class ReportFinding:
    """What a JSON file of the run says (an audit, a poison study), and its picture (PNG bytes)."""

    found: dict[str, Any]
    png: bytes | None


def template(name: str) -> Any:
    """Return a page's template with the filters that pages share."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("wsi_mil.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "number": _number,
        "interval": _interval,
        "interval01": lambda value: _interval(_within_0_and_1(value)),
        "jpeg": lambda data: _data_uri(data, "jpeg"),
        "png": lambda data: _data_uri(data, "png"),
        "url": lambda path: quote(str(path)),
    }
    return environment.get_template(name)


def render_report(
    title: str,
    slides: Sequence[ReportSlide],
    models: Sequence[ReportModel],
    columns: Sequence[MetricEntry],
    problems: Sequence[Outcome],
    stages: dict[str, str],
    provenance: dict[str, Any],
    config_text: str,
    curves_png: bytes | None,
    comparison: Sequence[Sequence[str]] = (),
    strip: int = 24,
    audits: Sequence[ReportFinding] = (),
    poisons: Sequence[ReportFinding] = (),
) -> str:
    """Return the page. `columns`: the metrics of the table of models. Per model at most `strip` heatmaps are shown, most suspicious slides first. `comparison`: a table of
    all trainings, its header first."""
    strips = {
        model.name: [
            {
                "slide": slide,
                "probability": slide.probabilities[model.name],
                "predicted": slide.predicted[model.name],
                "preview": _image(slide.preview, 420) if slide.preview else "",
                "overlay": _image(slide.overlays[model.name], 620),
            }
            for slide in sorted(slides, key=lambda s: -s.probabilities.get(model.name, -1.0))
            if model.name in slide.overlays
        ][:strip]
        for model in models
    }
    return str(
        template("report.html").render(
            title=title,
            slides=slides,
            models=models,
            columns=columns,
            strips=strips,
            problems=problems,
            stages=stages,
            provenance=provenance,
            config_text=config_text,
            comparison=comparison,
            curves=_data_uri(curves_png, "png") if curves_png else "",
            audits=audits,
            poisons=poisons,
        )
    )


def _image(path: Path, width_px: int) -> str:
    """A picture as a JPEG data address of at most `width_px`: small enough to carry dozens."""
    import cv2

    image = cv2.imread(str(path))
    if image is None:
        return ""
    scale = min(width_px / image.shape[1], 1.0)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return _data_uri(encoded.tobytes(), "jpeg")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _number(value: Any) -> str:
    """Three decimals; a dash for what is undefined."""
    return "–" if value is None or value != value else f"{value:.3f}"


def _within_0_and_1(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """A t interval of a figure that cannot leave [0, 1], cut there."""
    if not value or value.get("low") is None:
        return value
    return {**value, "low": max(value["low"], 0.0), "high": min(value["high"], 1.0)}


def _interval(value: dict[str, Any] | None) -> str:
    if not value or value.get("low") is None:
        return ""
    return f"{value['low']:.3f} to {value['high']:.3f}"
