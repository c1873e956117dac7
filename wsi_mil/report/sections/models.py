"""One section for each model, made of the parts in `wsi_mil/report/model_parts`."""

from wsi_mil.report.section import Content, Link, Section, model_parts
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill


def read(source: ReportSource) -> Content | None:
    if not source.models:
        return None
    contents = {
        name: [(part_name, part, part.read(source, name)) for part_name, part in model_parts()]
        for name in source.models
    }
    inputs = {
        name: {
            part_name: [part.version, content.inputs]
            for part_name, part, content in parts
            if content is not None
        }
        for name, parts in contents.items()
    }
    anchors = {name: f"model-{number}" for number, name in enumerate(source.models, 1)}

    def render() -> str:
        models = [
            {
                "name": name,
                "anchor": anchors[name],
                "parts": [content.render() if content else "" for *_, content in parts],
            }
            for name, parts in contents.items()
        ]
        return fill(__file__, models=models)

    return Content(inputs, render, tuple(Link(anchor, name) for name, anchor in anchors.items()))


SECTION = Section("Models", "model-1", 30, read)
