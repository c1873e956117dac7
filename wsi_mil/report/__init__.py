"""The report of a run: report.html from its sections, and the figures that it shows."""
