"""Helpers of the Camelyon studies (`camelyon16.py`, `camelyon17.py`)."""
