"""Readers of slide files: each module is one reader, named like its file, and assigns its class to READER."""
