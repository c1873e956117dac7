"""Where a configuration names code: the keys whose value may be `package.module:Name`."""

from collections.abc import Mapping

from wsi_mil.encoders.names import is_family
from wsi_mil.trust import is_reference

KEYS = (
    ("slides", "reader"),
    ("task", "kind"),
    ("encoder", "name"),
    ("train", "aggregator"),
    ("poison", "kind"),
)
"""Block and key. The models of `models` name their aggregators as well."""


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
