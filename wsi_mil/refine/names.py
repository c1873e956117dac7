"""The files of a refiner, in the folder of the slide model that it belongs to."""

WEIGHTS = "refiner.safetensors"
CARD = "refiner.json"
"""Everything but the weights."""
