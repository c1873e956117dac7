"""The lab with a slide that aborts."""

from pathlib import Path

import pytest

from tests.reliability.aborting import Lab, make_lab


@pytest.fixture
def lab(cohort: Path, tmp_path: Path) -> Lab:
    return make_lab(cohort, tmp_path)
