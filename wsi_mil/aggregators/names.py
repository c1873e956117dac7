"""Names of aggregators, with where each is built."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from wsi_mil.registry import OpenRegistry

METHODS = {
    "mi_net": "mi_net:MiNet",
    "mi_net_embedding": "mi_net_embedding:MiNetEmbedding",
    "focus_mil": "focus_mil:FocusMIL",
    "causal_mil": "causal_mil:CausalMIL",
    "abmil": "abmil:ABMIL",
    "abmil_gated": "abmil_gated:gated_abmil",
    "clam_sb": "clam:CLAMSB",
    "clam_mb": "clam:CLAMMB",
    "dsmil": "dsmil:DSMIL",
    "transmil": "transmil:TransMIL",
    "dtfd": "dtfd:DTFD",
    "acmil": "acmil:ACMIL",
    "loss_attention": "loss_attention:LossAttention",
    "mean_pool": "mean_pool:MeanPool",
    "max_pool": "max_pool:MaxPool",
}
WRAPPERS = {"counterfactual": "counterfactual:Counterfactual", "guided": "guided:Guided"}
ATTENTION_METHODS = ("abmil", "abmil_gated", "clam_sb", "clam_mb", "dsmil", "acmil", "loss_attention")
WRAPPED = {f"{w}({m})": place for w, place in WRAPPERS.items() for m in ATTENTION_METHODS}

AGGREGATORS = OpenRegistry(
    "aggregator",
    {name: f"wsi_mil.aggregators.{place}" for name, place in {**METHODS, **WRAPPED}.items()},
    group="wsi_mil.aggregators",
)


def wrapped_method(name: str) -> str | None:
    """Return the method inside the parentheses, or None where there is none.

    >>> wrapped_method("guided(abmil)"), wrapped_method("abmil")
    ('abmil', None)
    """
    return name[name.index("(") + 1 : -1] if name in WRAPPED else None


def matching_aggregators(patterns: Sequence[str]) -> list[str]:
    """Return the aggregators that match any of the patterns, each once.

    'all' stands for every method by itself, '*' for the wrapped ones as well; package.module:Class stands for itself. Raises
    ConfigError, with the nearest names, for a pattern that matches none.

    >>> matching_aggregators(["clam*", "mi_net"])
    ['clam_sb', 'clam_mb', 'mi_net']
    """
    names: dict[str, None] = {}
    for pattern in patterns:
        # fnmatchcase: parentheses and underscores as they are; only * and ? are patterns
        found = (
            list(METHODS)
            if pattern == "all"
            else [name for name in AGGREGATORS if fnmatchcase(name, pattern)]
        )
        if not found:
            _ = AGGREGATORS[pattern]
            found = [pattern]
        names |= dict.fromkeys(found)
    return list(names)
