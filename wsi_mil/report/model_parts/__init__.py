"""The parts of one model's section in report.html: one module each, which assigns a `ModelPart` to `PART`."""
