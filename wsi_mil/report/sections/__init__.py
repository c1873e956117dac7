"""The sections of report.html: one module each, which assigns a `wsi_mil.report.section.Section` to
`SECTION`.
"""
