"""One section for each model, made of the parts in `wsi_mil/report/model_parts`."""

from collections.abc import Sequence
from typing import Any

from wsi_mil.report.section import Content, Link, Section, model_parts
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill
from wsi_mil.training.learning import NOT_LEARNED


def read(source: ReportSource) -> Content | None:
    if not source.models:
        return None
    contents = {
        name: [(part_name, part, part.read(source, name)) for part_name, part in model_parts()]
        for name in source.models
    }
    inputs: dict[str, Any] = {
        name: {
            part_name: [part.version, content.inputs]
            for part_name, part, content in parts
            if content is not None
        }
        for name, parts in contents.items()
    }
    headers = {name: source.slide_scores[name][1] for name in source.models}
    warnings = {
        name: "" if not header.not_learned else _warning(header.not_learned, header.folds)
        for name, header in headers.items()
    }
    inputs["not learned"] = {name: text for name, text in warnings.items() if text}
    anchors = {name: f"model-{number}" for number, name in enumerate(source.models, 1)}

    def render() -> str:
        models = [
            {
                "name": name,
                "anchor": anchors[name],
                "warning": warnings[name],
                "parts": [content.render() if content else "" for *_, content in parts],
            }
            for name, parts in contents.items()
        ]
        return fill(__file__, models=models)

    return Content(inputs, render, tuple(Link(anchor, name) for name, anchor in anchors.items()))


def _warning(folds: Sequence[int], of: int) -> str:
    """Return what the reader of a model's results must know first."""
    which = f"Fold {', '.join(map(str, folds))} of this model {NOT_LEARNED}" if of > 1 else ""
    return (
        f"{which or f'This model {NOT_LEARNED}'}: it explains hardly anything of the labels of validation "
        "slides. Its scores and heatmaps mean nothing. Train it again with train.restarts, or with another "
        "learning rate."
    )


SECTION = Section("Models", "model-1", 30, read)
