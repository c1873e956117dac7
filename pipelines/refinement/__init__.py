"""Helpers of the refinement study (`refine.py`)."""
