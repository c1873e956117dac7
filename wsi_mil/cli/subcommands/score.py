"""wsi-mil score CONFIG [key=value ...]"""

from wsi_mil.cli.stage_command import stage_command

POSITION = 80
SUMMARY = "score slides and tiles"

command = stage_command("score")
