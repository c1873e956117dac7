"""The last stages work on the run as a whole, not slide by slide: what `evaluate` and `report` take from its context."""

from wsi_mil.run.context import RunContext


def evaluate(context: RunContext) -> int:
    """Write the metrics of every model; return how many models needed work."""
    from wsi_mil.stages.evaluate import run_evaluate

    context.require_labels()
    split, config = context.require_split(), context.config
    return sum(
        run_evaluate(context.run, name, split, config.annotations, config.evaluation)
        for name in config.models
    )


def report(context: RunContext) -> int:
    """Write report.html; return 1, or 0 if it is up to date."""
    from wsi_mil.stages.report import run_report

    config = context.config
    return int(
        run_report(context.run, context.slides, config.slides.reader, context.labels, list(config.models))
    )
