"""Poison: a visible signal that is not tumour, painted on training slides to see which methods follow it."""
