"""wsi-mil tile CONFIG [key=value ...] [--strict]"""

from wsi_mil.cli.parameters import qupath_config_options, strict_option
from wsi_mil.cli.stage_command import stage_command

POSITION = 50
SUMMARY = "find tissue and lay a grid of tiles over it"

command = stage_command("tile", qupath_config_options, strict_option)
