"""Slides: one interface to slide files and to arrays in memory, with the scale in µm per pixel."""

from wsi_mil.slides.array import ArrayReader
from wsi_mil.slides.base import SlideReader
from wsi_mil.slides.discovery import SlideFile, find_slides
from wsi_mil.slides.opening import open_slide
from wsi_mil.slides.scaled import read_scaled

__all__ = ["ArrayReader", "SlideFile", "SlideReader", "find_slides", "open_slide", "read_scaled"]
