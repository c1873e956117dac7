"""Runs that were killed and resumed have the bytes of runs that were not disturbed."""

from pathlib import Path

import pytest

from tests.reliability.kills import run

KILLS = 40


@pytest.mark.slow
def test_forty_kills_over_all_stages(tmp_path: Path) -> None:
    rows = run(tmp_path, KILLS, seed=1)
    assert sum(row.kills for row in rows) == KILLS
    assert all(row.kills for row in rows)
    assert [row for row in rows if not row.good] == []
    assert all(row.files for row in rows)
