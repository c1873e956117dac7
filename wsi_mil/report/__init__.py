"""The report: one HTML page that needs nothing but itself."""

from wsi_mil.report.curves import draw_curves
from wsi_mil.report.page import Crop, ReportFinding, ReportModel, ReportSlide, render_report

__all__ = ["Crop", "ReportFinding", "ReportModel", "ReportSlide", "draw_curves", "render_report"]
