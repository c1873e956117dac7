"""YAML text as plain values. A key that a block has twice is refused: YAML itself would silently take the
last one."""

from pathlib import Path

import yaml

from wsi_mil import limits
from wsi_mil.errors import ConfigError
from wsi_mil.io.bounded import check_size

Values = dict[str, object]
"""A block of a configuration as it was written: key -> value, or key -> block."""
MOST_VALUES = 100_000


def read_values(path: Path) -> Values:
    """Return what a YAML file holds. Raises ConfigError unless it is readable YAML of keys and values."""
    if path.is_file():
        check_size(path, limits.CONFIG_BYTES, ConfigError)
    try:
        found = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold keys and values, found a {type(found).__name__}")
    return found


def parse_yaml(text: str) -> object:
    """Return the value of a YAML text. Raises yaml.YAMLError, also for a key that a block has twice, and for
    more values than MOST_VALUES.

    >>> parse_yaml("tiles: {mpp: 0.5}")
    {'tiles': {'mpp': 0.5}}
    """
    try:
        value: object = yaml.load(text, _Loader)  # a SafeLoader: it builds plain values only
        _count_values(value, {})
    except RecursionError as error:
        raise yaml.YAMLError("its lists and blocks are nested too deeply") from error
    return value


def _count_values(value: object, known: dict[int, int]) -> int:
    """Return how many values there are. A block that is used ten times (`*name`) counts ten times: a few
    lines of such references are more values than a computer can hold."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST_VALUES  # of a block that contains itself
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(part, known) for part in parts)
        if known[id(value)] > MOST_VALUES:
            raise yaml.YAMLError(
                f"it holds more than {MOST_VALUES:,} values, or a block that contains itself"
            )
    return known[id(value)]


class _Loader(yaml.SafeLoader):
    """The safe loader of PyYAML, which refuses a key that a block has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        lines: dict[object, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if isinstance(key, str | int | float | bool) and key in lines:
                raise yaml.YAMLError(
                    f"key {key!r} is given twice in one block, in lines {lines[key]} and {line}: keep one"
                )
            if isinstance(key, str | int | float | bool):
                lines[key] = line
        return dict(super().construct_mapping(node, deep))
