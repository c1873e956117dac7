"""Helpers of the study of poolings (`image_pooling.py`)."""
