"""wsi-mil tile CONFIG [key=value ...]"""

from wsi_mil.cli.stage_command import qupath_stage_command

POSITION = 50
SUMMARY = "find tissue and lay a grid of tiles over it"

command = qupath_stage_command("tile")
