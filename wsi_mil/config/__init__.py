"""The configuration of a run: the settings of all stages, read from YAML, checked, and saved with the run."""

from wsi_mil.config.loading import load_config, packaged_config, save_config
from wsi_mil.config.provenance import write_provenance
from wsi_mil.config.schema import RunConfig, SlidesConfig

__all__ = ["RunConfig", "SlidesConfig", "load_config", "packaged_config", "save_config", "write_provenance"]
