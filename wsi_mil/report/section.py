"""What a section of report.html is, and where the sections are found.

A section of the page is one module of `wsi_mil/report/sections`, with its template beside it. A part of every
model's section is one module of `wsi_mil/report/model_parts`. A module that is added there appears on the
page; other packages offer theirs through the entry points `wsi_mil.report_sections` and
`wsi_mil.report_model_parts`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wsi_mil.registry import FolderRegistry
from wsi_mil.report.source import ReportSource

SECTIONS = FolderRegistry("report section", "wsi_mil.report.sections", "SECTION", "wsi_mil.report_sections")
MODEL_PARTS = FolderRegistry(
    "part of a model's section", "wsi_mil.report.model_parts", "PART", "wsi_mil.report_model_parts"
)


@dataclass(frozen=True)
class Link:
    """An entry of the page's navigation: the id of a heading, and the word to click."""

    anchor: str
    word: str


@dataclass(frozen=True)
class Content:
    """What a section has to show for one run.

    inputs: a JSON value that changes whenever the section would; the page is written again only then. render:
    returns the section's HTML, called only if the page is written. links: None means a link to the section's
    own heading.
    """

    inputs: Any
    render: Callable[[], str]
    links: tuple[Link, ...] | None = None


@dataclass(frozen=True)
class Section:
    """A section of the page. `read` returns what there is to show, or None to leave the section out.

    order: sections with a lower number come first. anchor: the id of the heading. version: raised with each
    change of the section's code or template, so that pages of an earlier version are written again.
    """

    title: str
    anchor: str
    order: int
    read: Callable[[ReportSource], Content | None]
    version: int = 1

    def links(self, content: Content) -> tuple[Link, ...]:
        """Return the section's entries of the navigation."""
        return (Link(self.anchor, self.title),) if content.links is None else content.links


@dataclass(frozen=True)
class ModelPart:
    """A part of the section of one model; fields as in `Section`. `read` also receives the model's name."""

    order: int
    read: Callable[[ReportSource, str], Content | None]
    version: int = 1


def sections() -> list[tuple[str, Section]]:
    """Return every section with its name, in the order of the page."""
    found = [(name, SECTIONS.load(name)) for name in SECTIONS]
    return sorted(found, key=lambda pair: (pair[1].order, pair[0]))


def model_parts() -> list[tuple[str, ModelPart]]:
    """Return every part of a model's section with its name, in the order of the page."""
    found = [(name, MODEL_PARTS.load(name)) for name in MODEL_PARTS]
    return sorted(found, key=lambda pair: (pair[1].order, pair[0]))
