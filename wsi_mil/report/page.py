"""report.html from its sections: one page that needs no other file and no network."""

from dataclasses import dataclass

from wsi_mil.io.files import digest_bytes, digest_json
from wsi_mil.io.json import read_json
from wsi_mil.io.seals import current_digest
from wsi_mil.report.section import Content, Section, sections
from wsi_mil.report.source import ReportSource
from wsi_mil.report.templating import fill

VERSION = 8  # of the page around its sections; raised with each change of page.html


@dataclass(frozen=True)
class Page:
    """The sections of a run's report, read but not yet rendered. A section without content is left out."""

    source: ReportSource
    contents: tuple[tuple[str, Section, Content | None], ...]

    @property
    def mark(self) -> str:
        """The last line of the page: an HTML comment with the digest of everything that the page shows."""
        inputs = {
            name: [section.version, content.inputs if content else None]
            for name, section, content in self.contents
        }
        return f"<!-- inputs {digest_json([VERSION, _heading(self.source), inputs])} -->"

    def render(self) -> str:
        """Return the page as HTML, `mark` included."""
        links = [link for _, section, content in self.contents if content for link in section.links(content)]
        parts = [content.render() if content else "" for _, _, content in self.contents]
        body = fill(__file__, **_heading(self.source), links=links, parts=parts)
        return f"{body}\n{self._last_line(body)}\n"

    def is_current(self) -> bool:
        """Return whether report.html and evaluation/curves.png show this page, and are what was written."""
        path = self.source.run.report
        if not path.exists():
            return False
        body, _, last = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").rpartition("\n")
        return last == self._last_line(body)

    def _last_line(self, body: str) -> str:
        curves = current_digest(self.source.run.curves) or "none"
        return f"{self.mark} <!-- digests: page {digest_bytes(body.encode())}, curves.png {curves} -->"


def read_page(source: ReportSource) -> Page:
    """Return the report of a run. Raises StoreError if a file of the run cannot be read."""
    return Page(source, tuple((name, section, section.read(source)) for name, section in sections()))


def _heading(source: ReportSource) -> dict[str, object]:
    """What the page shows above the first section."""
    ledger = source.run.ledger
    return {
        "title": f"wsi_mil report: {source.run.path.name}",
        "slides": len(source.slide_ids),
        "stages": [
            f"{stage}: {ledger.summary(stage)}" for stage in ("tile", "extract") if ledger.rows(stage)
        ],
        "producer": read_json(source.run.path / "provenance.json")["producer"],
    }
