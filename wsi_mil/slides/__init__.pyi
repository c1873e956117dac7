from .array import ArrayReader as ArrayReader
from .base import SlideReader as SlideReader
from .discovery import SlideFile as SlideFile
from .discovery import find_slides as find_slides
from .opening import open_slide as open_slide
from .scaled import read_scaled as read_scaled
