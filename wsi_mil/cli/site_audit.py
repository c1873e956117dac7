"""What `wsi-mil audit RUN --sites` prints."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from wsi_mil.contracts.metric import Metric
    from wsi_mil.report.templating import Bounds
    from wsi_mil.robustness.sites.results import SiteAudit


def audit_sites(run: Path, overrides: tuple[str, ...], model: str | None, out: Path | None) -> str:
    """Audit the centres of a run, print the tables, and return the verdict."""
    from wsi_mil.config import load_config
    from wsi_mil.experiments.site_audit import run_site_audit
    from wsi_mil.run.folder import RunFolder

    config = load_config(run, overrides)
    found = run_site_audit(config, [model] if model else [], out)
    _print(found)
    page = out / "audit.html" if out is not None else RunFolder(config.run).sites / "sites.html"
    click.echo(f"page: {page}")
    return found.verdict


def _print(found: "SiteAudit") -> None:
    from wsi_mil.io.tables import text_table

    tie = found.tie
    click.echo(
        f"label: the centre alone has an AUC of {_shown(tie.auc)}, Cramér's V {_shown(tie.cramers_v)} "
        f"(p {_shown(tie.p_value)})"
    )
    rows = [["centre named from", "n", "accuracy", "interval", "chance"]]
    for probe in found.probes:
        rows.append([probe.what, str(probe.n), *_numbers(probe.accuracy, probe), _shown(probe.chance)])
    click.echo(text_table(rows, align="<>><>"))
    for index in found.indices:
        value = index.reason or f"{' '.join(_numbers(index.value, index))}, k {index.k}"
        click.echo(f"robustness index of {index.what}: {value}")
    for model in found.models:
        rows = [[model.model, "slides", "positive", "AUC", "interval"]]
        for row in model.centres:
            rows.append([row.centre, str(row.slides), str(row.positive), *_metric(row.auc)])
        rows.append(["pairs of the same centre", str(model.within.n), "", *_metric(model.within)])
        rows.append(["all test slides", str(model.all_slides.n), "", *_metric(model.all_slides)])
        click.echo(text_table(rows, align="<>>><"))
    for check in found.checks:
        click.echo(f"{' '.join(filter(None, (check.name, check.model)))}: {check.verdict}: {check.why}")
    click.echo(f"verdict: {found.verdict}")


def _metric(metric: "Metric") -> list[str]:
    if metric.interval is None:
        return [_shown(metric.value), metric.reason]
    return _numbers(metric.value, metric.interval)


def _numbers(value: float, interval: "Bounds") -> list[str]:
    from wsi_mil.report.templating import interval as text

    return [_shown(value), text(interval)]


def _shown(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"
