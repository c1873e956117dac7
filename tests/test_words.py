# SPDX-License-Identifier: Apache-2.0
"""Words that this project does not use, because readers of the field know another word for the same thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PLAIN = {
    "lattice": "tile grid",
    "verb": "subcommand",
    "verbs": "subcommands",
    "guest": "name the owner of the run folder",
    "kin": "name the family",
    "told": "reported",
    "at hand": "available",
    "passed over": "skipped",
    "stands in": "replaces",
    "stand in": "replace",
    "left alone": "kept",
    "let alone": "kept",
    "goes on": "continues",
    "go on": "continue",
    "share of": "fraction of",
    "shares of": "fractions of",
    "nobody": "no user, no slide ..",
    "held against": "compared with",
    "afresh": "from the beginning",
    "lent": "borrowed",
    "riddle": "say it plainly",
    "stands for": "is, means",
    "stand for": "are, mean",
    "an account of": "a list of, counts of",
}
LONGEST = 110
TEXTS = [
    path
    for folder in ("wsi_mil", "pipelines", "benchmarks", "docs", "docker", "configs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".pyi", ".md", ".html", ".yaml"}
] + [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def found(text: str) -> list[str]:
    """Return `word (use: plain word)` for every word of the list, once for each time that it occurs."""
    words = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in PLAIN)
    hits = [re.sub(r"\s+", " ", hit.lower()) for hit in re.findall(rf"\b({words})\b", text, re.IGNORECASE)]
    return [f"{hit} (use: {PLAIN[hit]})" for hit in hits]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_text_uses_words_of_the_field(path: Path) -> None:
    assert found(path.read_text(encoding="utf-8")) == []


def test_a_word_of_the_list_is_found_across_a_line_break() -> None:
    assert found("The slide is not at\n    hand; Verbs") == [
        "at hand (use: available)",
        "verbs (use: subcommands)",
    ]


def long_lines(text: str) -> list[int]:
    """Return the numbers of the lines of more than 110 characters, tables, code and images aside."""
    code, found = False, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        elif len(line) > LONGEST and not code and not line.startswith(("    ", "|")):
            found.append(number)
    return found


@pytest.mark.parametrize(
    "path", [p for p in TEXTS if p.suffix in {".md", ".yaml"}], ids=lambda path: str(path.relative_to(ROOT))
)
def test_lines_of_documents_are_at_most_110_characters(path: Path) -> None:
    assert long_lines(path.read_text(encoding="utf-8")) == []


def test_a_long_line_is_found() -> None:
    assert long_lines("short\n" + "x" * 111 + "\n| " + "x" * 120 + "\n```\n" + "x" * 120 + "\n```\n") == [2]
