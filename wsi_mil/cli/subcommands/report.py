"""wsi-mil report CONFIG [key=value ...]"""

from wsi_mil.cli.stage_command import stage_command

POSITION = 120
SUMMARY = "write one self-contained page"

command = stage_command("report")
