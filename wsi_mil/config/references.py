"""Where a configuration decides which code runs: the keys whose value may be `package.module:Name`, and those
that say what runs on other machines."""

from collections.abc import Mapping

from wsi_mil.encoders.names import is_family
from wsi_mil.errors import TrustError
from wsi_mil.trust import is_reference, is_trusted, refuse_untrusted, trust, trust_options

KEYS = (
    ("slides", "reader"),
    ("task", "kind"),
    ("encoder", "name"),
    ("train", "aggregator"),
    ("poison", "kind"),
)
"""Block and key. The models of `models` name their aggregators as well."""
COMMANDS = ("execution.scheduler", "execution.cluster.prologue", "execution.cluster.directives")
"""A Dask scheduler sends pickled results; the others are lines of a job script."""
IMAGE = "execution.cluster.image"


def refuse_untrusted_values(source: str, values: Mapping[str, object]) -> None:
    """Raise TrustError if a configuration, as plain values, names code or commands that are not trusted."""
    refuse_untrusted(source, references_in(values))
    if missing := [key for key in commands_in(values) if not is_trusted(key)]:
        raise TrustError(
            f"{source}: {', '.join(missing)} decides which code runs, so a file alone cannot set it: "
            f"if you trust it, {trust_options(missing)}"
        )


def trust_values(values: Mapping[str, object]) -> None:
    """Trust the code and commands in plain values that the user typed."""
    trust(*references_in(values).values(), *commands_in(values))


def commands_in(values: Mapping[str, object]) -> list[str]:
    """Return the keys that say what runs on other machines, of plain values that need not be valid.

    >>> commands_in({"execution": {"scheduler": None, "cluster": {"prologue": ["module load cuda"]}}})
    ['execution.cluster.prologue']
    """
    execution = values.get("execution")
    cluster = _value(execution, "cluster")
    found = {
        COMMANDS[0]: _value(execution, "scheduler"),
        COMMANDS[1]: _value(cluster, "prologue"),
        COMMANDS[2]: _value(cluster, "directives"),
        IMAGE: image if (image := _value(cluster, "image")) != "wsi-mil" else None,
    }
    return [key for key, value in found.items() if value]


def references_in(values: Mapping[str, object]) -> dict[str, str]:
    """Return key -> `package.module:Name` of the plain values of a configuration, which need not be valid.

    >>> references_in({"encoder": {"name": "my_lab:Mine"}, "models": {"a": {"aggregator": "my_mil:A"}}})
    {'encoder.name': 'my_lab:Mine', 'models.a.aggregator': 'my_mil:A'}
    """
    found = {f"{block}.{key}": _value(values.get(block), key) for block, key in KEYS}
    models = values.get("models")
    for name, own in models.items() if isinstance(models, Mapping) else ():
        found[f"models.{name}.aggregator"] = _value(own, "aggregator") or name
    return {key: str(name) for key, name in found.items() if is_reference(name) and not is_family(str(name))}


def _value(block: object, key: str) -> object:
    return block.get(key) if isinstance(block, Mapping) else None
