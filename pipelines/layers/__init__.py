"""Helpers of the studies of layers (`layers_probe.py`, `layers_mil.py`)."""
