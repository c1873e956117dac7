"""audit.html: the bag tests of aggregators as one page that needs no other file."""

from wsi_mil.report.templating import fill
from wsi_mil.robustness.audit.bag_test_results import LEARNED_AUC, MethodAudit
from wsi_mil.robustness.audit.bag_tests import load_bag_test
from wsi_mil.robustness.audit.bag_tests.base import KEPT_SHARE, PASS_AUC


def render_method_audit(audit: MethodAudit) -> str:
    """Return the page of an audit of aggregators as HTML."""
    names = [row.test for row in audit.aggregators[0].tests] if audit.aggregators else []
    tests = {name: load_bag_test(name) for name in names}
    limits = {"pass_auc": PASS_AUC, "kept": KEPT_SHARE, "learned": LEARNED_AUC}
    return fill(__file__, audit=audit, tests=tests, limits=limits)
