"""The registry of aggregators: methods, and wrappers around methods that expose their attention."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache

from wsi_mil.registry import FolderRegistry, OpenRegistry

METHODS = FolderRegistry("aggregator", "wsi_mil.aggregators.methods", "AGGREGATOR", "wsi_mil.aggregators")
WRAPPERS = FolderRegistry(
    "aggregator", "wsi_mil.aggregators.wrappers", "WRAPPER", "wsi_mil.aggregator_wrappers"
)
WRAPPED_NAME = re.compile(r"(\w+)\((\w+)\)")


class AggregatorRegistry(OpenRegistry):
    """The methods by their names, and every wrapper around every method that exposes its attention.

    Which methods do is read from their classes, so listing all names imports torch; looking up a method does
    not.
    """

    def __init__(self) -> None:
        super().__init__("aggregator", {}, METHODS.group)

    @property
    def own(self) -> dict[str, str]:
        """Name -> `module:attribute`; a wrapped method has the place of its wrapper."""
        methods = METHODS.own
        inner = [name for name in methods if _exposes_attention(name)]
        wrapped = {f"{w}({name})": place for w, place in WRAPPERS.own.items() for name in inner}
        return {**methods, **wrapped}

    def __getitem__(self, name: str) -> str:
        return METHODS[name] if name in METHODS.own else super().__getitem__(name)


AGGREGATORS = AggregatorRegistry()


@cache
def _exposes_attention(name: str) -> bool:
    from wsi_mil.aggregators.attention import AttentionAggregator

    return issubclass(METHODS.load(name), AttentionAggregator)


def wrapped_method(name: str) -> str | None:
    """Return the method inside the parentheses; None if the name is not that of a wrapped method.

    >>> wrapped_method("guided(abmil)"), wrapped_method("abmil")
    ('abmil', None)
    """
    found = WRAPPED_NAME.fullmatch(name)
    return found[2] if found and found[1] in WRAPPERS.own and found[2] in METHODS.own else None


def matching_aggregators(patterns: Sequence[str]) -> list[str]:
    """Return the aggregators that match any of the patterns, each once.

    'all' is every method by itself, '*' every wrapped one as well; package.module:Class is taken as it is.
    Raises ConfigError, with the nearest names, for a pattern that matches none.

    >>> matching_aggregators(["clam*", "mi_net"])
    ['clam_mb', 'clam_sb', 'mi_net']
    """
    names: dict[str, None] = {}
    for pattern in patterns:
        # fnmatchcase: parentheses and underscores as they are; only * and ? are patterns
        found = (
            list(METHODS.own)
            if pattern == "all"
            else [name for name in AGGREGATORS if fnmatchcase(name, pattern)]
        )
        if not found:
            _ = AGGREGATORS[pattern]
            found = [pattern]
        names |= dict.fromkeys(found)
    return list(names)
