"""Helpers of the lung mosaics study (`lung_mosaics.py`)."""
