"""Helpers of the poison study (`poison_stain.py`)."""
