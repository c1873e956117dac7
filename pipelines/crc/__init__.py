"""Helpers of the colon nuclei study (`crc_cells.py`, `crc_cells_protocols.py`)."""
