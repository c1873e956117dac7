"""Files, tables, pictures and JSON: how the package reads and writes each kind, once."""
