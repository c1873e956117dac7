"""Settings from the command line, written as key.sub=value."""

from collections.abc import Sequence

import yaml

from wsi_mil.config.yaml_values import Values, parse_yaml
from wsi_mil.errors import ConfigError

SEEDED = ("split", "train", "refine", "evaluation")
"""The blocks that have a seed of their own."""


def apply_overrides(values: Values, overrides: Sequence[str]) -> None:
    """Change `values` as the overrides say. A new `seed` also becomes that of blocks that have the old one.

    Raises ConfigError for an override that is not key=value, or whose value is not YAML.

    >>> values: Values = {"tiles": {"mpp": 0.5}}
    >>> apply_overrides(values, ["tiles.mpp=1.0"])
    >>> values
    {'tiles': {'mpp': 1.0}}
    """
    before = values.get("seed", 0)
    for override in overrides:
        _apply(values, override)
    if values.get("seed", 0) != before:
        _follow_seed(values, before, overrides)


def _apply(values: Values, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is not an override: write key.sub=value, for example tiles.mpp=1.0")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the value of override {override!r} is not readable YAML: {reason}") from error
    block = values
    *parents, last = key.split(".")
    for parent in parents:
        child = block.setdefault(parent, {})
        if child is None:
            child = block[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is a value, not a block of keys")
        block = child
    block[last] = value


def _follow_seed(values: Values, before: object, overrides: Sequence[str]) -> None:
    """Remove the seeds of blocks that repeat the old `seed`: a saved configuration states the seed of every
    block."""
    for name in SEEDED:
        block = values.get(name)
        given = any(override.startswith(f"{name}.seed=") for override in overrides)
        if isinstance(block, dict) and block.get("seed") == before and not given:
            del block["seed"]
