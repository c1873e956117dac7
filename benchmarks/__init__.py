"""Speed and memory of this project, compared with a limit of the machine or with another tool."""
