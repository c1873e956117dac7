"""audit.html: aggregators against their tests, as one self-contained page."""

from typing import Any

WORDS = {
    "single_concept": "one kind of positive instance; poison says negative in training, positive in the test",
    "multi_concept": "positive only with both of two kinds; poison as above",
    "false_frequency": "positive only with both of two kinds; in the test negatives hold 35 to 44 copies of one",
    "duplicates": "one background instance ten times over, in positive bags in training, in negative ones in the test",
    "add_normal": "share of positive bags that stay positive with ten times as many normal instances",
    "remove_positive": "share of positive bags that turn negative without their positive instances",
    "bag_size": "positive bags larger in training, smaller in the test",
    "centre_signature": "a laboratory's signature on every instance of positive bags in training, of negative ones in the test",
    "position": "tissue of positive bags lies left in training, right in the test",
}


def render_bag_audit(found: dict[str, Any]) -> str:
    """Return the page of an audit.json of aggregators."""
    from wsi_mil.report.templating import fill

    tests = list(found["aggregators"][0]["tests"]) if found["aggregators"] else []
    return str(fill(__file__, found=found, tests=tests, words=WORDS))
