"""Configuration: the stages' own specs side by side, read from YAML, strict, saved resolved with the run."""

from wsi_mil.config.loading import load_config, packaged_config, save_config
from wsi_mil.config.provenance import provenance
from wsi_mil.config.schema import RunConfig, SlidesConfig

__all__ = ["RunConfig", "SlidesConfig", "load_config", "packaged_config", "provenance", "save_config"]
