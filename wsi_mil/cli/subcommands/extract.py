"""wsi-mil extract CONFIG [key=value ...]"""

from wsi_mil.cli.stage_command import stage_command

POSITION = 60
SUMMARY = "compute the features of tiles"

command = stage_command("extract")
