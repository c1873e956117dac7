"""From tile scores to pixel-level tumour maps: a small network trained on tiles that the slide model is sure of."""
