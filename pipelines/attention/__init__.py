"""Helpers of the study of attention on images (`image_attention.py`)."""
