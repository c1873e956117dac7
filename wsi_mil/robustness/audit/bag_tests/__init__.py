"""Tests of aggregators on generated bags: one module each. A module that is added to this folder is a new
test.

Each module assigns an instance of `ShortcutTest` or `InvarianceTest` (see `base`) to `TEST`; the module's
name is the test's name. Other packages offer tests through the entry points `wsi_mil.bag_tests`.
"""

from typing import TYPE_CHECKING

from wsi_mil.registry import FolderRegistry

if TYPE_CHECKING:
    from wsi_mil.robustness.audit.bag_tests.base import BagTest

BAG_TESTS = FolderRegistry("bag test", __name__, "TEST", "wsi_mil.bag_tests")


def load_bag_test(name: str) -> "BagTest":
    """Return the bag test called `name`. Raises ConfigError, with the known names, if there is none.

    >>> load_bag_test("bag_size").held_against
    False
    """
    from wsi_mil.errors import ConfigError
    from wsi_mil.robustness.audit.bag_tests.base import BagTest

    found = BAG_TESTS.load(name)
    if not isinstance(found, BagTest):
        raise ConfigError(f"bag test {name!r} is {found!r}, expected an instance of BagTest")
    return found


def bag_test_names() -> list[str]:
    """Return the names of all bag tests in the order of tables."""
    return sorted(BAG_TESTS, key=lambda name: (load_bag_test(name).order, name))
