"""Pixel-level tumour maps from a small network, trained on tiles that the slide model is sure of."""
