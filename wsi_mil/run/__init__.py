"""The run folder: paths of its files, its outcomes, its lock, and what in it is up to date."""
