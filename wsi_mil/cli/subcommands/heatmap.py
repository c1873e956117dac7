"""wsi-mil heatmap CONFIG [key=value ...]"""

from wsi_mil.cli.parameters import qupath_config_options
from wsi_mil.cli.stage_command import stage_command

POSITION = 90
SUMMARY = "draw overlays, pyramids and GeoJSON"

command = stage_command("heatmap", qupath_config_options)
