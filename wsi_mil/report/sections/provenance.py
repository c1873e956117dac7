"""Section "Provenance": the versions that made the run, and its configuration."""

from wsi_mil.io.json import read_json
from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill


def read(source: ReportSource) -> Content:
    provenance = read_json(source.run.path / "provenance.json")
    path = source.run.path / "config.yaml"
    config = path.read_text(encoding="utf-8") if path.exists() else "{}\n"
    return Content([provenance, config], lambda: fill(__file__, provenance=provenance, config_text=config))


SECTION = Section("Provenance", "provenance", 80, read)
