"""One module per metric: its function on arrays, and its entries `METRICS` for the table of metrics."""
