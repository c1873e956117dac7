"""Every limit is used, tested just above and below its figure, and described in docs/limits.md."""

import re
from pathlib import Path

import pytest

from wsi_mil import limits
from wsi_mil.errors import DataError, SlideError
from wsi_mil.io.tables import markdown_row
from wsi_mil.limits import Limit

ROOT = Path(__file__).parents[1]
LIMITS = {name: value for name, value in vars(limits).items() if isinstance(value, Limit)}


def mentions(folder: str, name: str) -> int:
    """How many files of a folder name a limit, wsi_mil/limits.py and this file left out."""
    files = (
        path for path in (ROOT / folder).rglob("*.py") if path.name not in ("limits.py", "test_limits.py")
    )
    return sum(bool(re.search(rf"\blimits\.{name}\b", path.read_text(encoding="utf-8"))) for path in files)


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_is_used_and_tested(name: str) -> None:
    assert mentions("wsi_mil", name) > 0
    assert mentions("tests", name) > 0


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_refuses_in_one_line_what_is_above_it(name: str) -> None:
    limit = LIMITS[name]
    limit.check(limit.most, "a.svs", SlideError)
    for found in (limit.most + 1, float("nan"), float("inf")):
        with pytest.raises(SlideError) as raised:
            limit.check(found, "a.svs", SlideError)
        expected = f"a.svs: {found:,} {limit.what}, at most {limit.most:,} are read: {limit.remedy}"
        assert str(raised.value) == expected
        assert "\n" not in expected
    with pytest.raises(DataError):
        limit.check(limit.most + 1, "a.csv")


def test_the_documentation_holds_the_table_of_the_limits() -> None:
    rows = [markdown_row([one.what, f"{one.most:,}", one.why, one.remedy]) for one in LIMITS.values()]
    table = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8").splitlines()
    found = [line for line in table if line.startswith("| ")][1:]
    assert found == rows, "docs/limits.md differs from wsi_mil/limits.py; expected:\n" + "\n".join(rows)
