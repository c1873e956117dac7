"""What is refused before a run begins; and settings that load without the heavy libraries."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wsi_mil.config.loading import parse_config
from wsi_mil.config.validation import refuse_other_features, refuse_unknown_names
from wsi_mil.errors import ConfigError


def config(**values: Any) -> Any:
    return parse_config({"run": "r", "slides": {"folder": "slides"}, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slides": {"folder": "s", "reader": "opensilde"}}, "No reader named 'opensilde'"),
        ({"encoder": {"name": "textur"}}, "No encoder named 'textur'"),
        ({"models": {"mi_nett": {}}}, "No aggregator named 'mi_nett'"),
    ],
)
def test_unknown_names(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_unknown_names(config(**values))
    refuse_unknown_names(config())


@pytest.mark.parametrize(
    "values", [{"tiles": {"mpp": 2.0}}, {"encoder": {"batch_size": 3}}, {"slides": {"folder": "others"}}]
)
def test_other_features_than_the_run_has(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="give another run folder"):
        refuse_other_features(config(**values), config())
    refuse_other_features(config(train={"epochs": 3}), config())


def test_settings_load_no_heavy_library(tmp_path: Path) -> None:
    code = "import sys, wsi_mil.config, wsi_mil.stages.table; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "openslide", "dask", "zarr", "timm", "sklearn"} & set(found.stdout.split())
