"""Section "Audit": the audits of the run's models, each with its picture."""

from wsi_mil.report.audit_figure import draw_audit
from wsi_mil.report.section import Content, Section
from wsi_mil.report.source import ReportSource, undamaged
from wsi_mil.report.templating import fill
from wsi_mil.robustness.audit.model_audit import read_model_audit


def read(source: ReportSource) -> Content | None:
    paths = [source.run.audit(name) / "audit.json" for name in source.models]
    found = undamaged(paths, read_model_audit)
    current = [(path, audit) for path, audit in found if source.are_current(audit.model, audit.model_digests)]
    if not current:
        return None
    audits = [audit for _, audit in current]

    def render() -> str:
        pngs = []
        for path, audit in current:
            draw_audit(audit, picture := path.with_name("curves.png"))  # equal, also after damage
            pngs.append(picture.read_bytes())
        return fill(__file__, audits=list(zip(audits, pngs, strict=True)))

    return Content([audit.as_json() for audit in audits], render)


SECTION = Section("Audit", "audit", 40, read, version=2)
