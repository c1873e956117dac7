"""Poison: an artificial signal on slides that says nothing about tumour; its settings, places and pixels."""
