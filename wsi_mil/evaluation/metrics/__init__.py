"""One module for each metric: its function on arrays, and its entries for `wsi_mil.evaluation.table` as
`METRICS`."""
