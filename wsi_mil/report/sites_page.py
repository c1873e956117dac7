"""sites.html: the audit of sites as one page that needs no other file."""

from wsi_mil.report.templating import fill
from wsi_mil.robustness.sites.results import SiteAudit
from wsi_mil.robustness.sites.tie import GUESSABLE_AUC


def render_site_audit(audit: SiteAudit) -> str:
    """Return the page of an audit of sites as HTML."""
    return fill(__file__, audit=audit, guessable=GUESSABLE_AUC)
