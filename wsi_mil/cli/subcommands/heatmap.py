"""wsi-mil heatmap CONFIG [key=value ...]"""

from wsi_mil.cli.stage_command import qupath_stage_command

POSITION = 90
SUMMARY = "draw overlays, pyramids and GeoJSON"

command = qupath_stage_command("heatmap")
