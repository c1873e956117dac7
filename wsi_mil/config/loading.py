"""YAML in, a valid RunConfig out; every mistake is told with its key, its value and what was expected."""

import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from wsi_mil.config.schema import RunConfig
from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import ConfigError, nearest
from wsi_mil.io.files import write_text

SEEDED = ("split", "train", "refine", "evaluation")


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Return the configuration in a YAML file (or in a run folder), with `key.sub=value` overrides on top.

    Raises ConfigError that names every wrong key or value, with the nearest known key.
    """
    path = Path(path)
    folder = path if path.is_dir() else None
    if folder is not None:
        path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"no configuration at {path}: give a YAML file or a run folder")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold keys and values, got a {type(raw).__name__}")
    if folder is not None:
        raw["run"] = str(folder)  # the run is where it lies, whatever it was called from
    before = raw.get("seed", 0)
    for override in overrides:
        _apply(raw, override)
    if raw.get("seed", 0) != before:
        _follow_seed(raw, before, overrides)
    return parse_config(raw, str(path))


def _follow_seed(raw: dict[str, Any], before: object, overrides: tuple[str, ...]) -> None:
    """A resolved configuration states every block's seed: those that only repeat the old `seed` follow the new one."""
    for name in SEEDED:
        block = raw.get(name)
        given = any(override.startswith(f"{name}.seed=") for override in overrides)
        if isinstance(block, dict) and block.get("seed") == before and not given:
            del block["seed"]


def parse_config(raw: dict[str, Any], source: str = "configuration") -> RunConfig:
    """Return the RunConfig of plain values; `seed` becomes the seed of every block that sets none."""
    for block in SEEDED:
        if isinstance(raw.get("seed"), int) and isinstance(raw.get(block, {}), dict):
            raw.setdefault(block, {}).setdefault("seed", raw["seed"])
    try:
        config = RunConfig(**raw)
    except ValidationError as error:
        problems = [_explain(dict(problem)) for problem in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(problems)) from error
    try:
        for name in config.models:
            config.train_spec(name)
    except ValidationError as error:
        problems = [_explain({**dict(p), "loc": ("models", name, *p["loc"])}) for p in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(problems)) from error
    return config


def with_trained(config: RunConfig) -> RunConfig:
    """Return `config` with the models that its run folder has trained before put in front: a run keeps its models."""
    saved = config.run / "config.yaml"
    if not saved.is_file():
        return config
    before = {
        name: own
        for name, own in load_config(saved).models.items()
        if (config.run / "models" / name).is_dir()
    }
    return config.model_copy(update={"models": {**before, **config.models}})


S = TypeVar("S", bound=Spec)


def checked(kind: type[S], values: dict[str, Any]) -> S:
    """Return `kind(**values)`, with a wrong value told in one line (ConfigError)."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(dict(problem)) for problem in error.errors())) from error


def save_config(config: RunConfig, path: Path) -> None:
    """Write the resolved configuration, so that the run can be repeated from its own folder."""
    header = "# The resolved configuration of this run: `wsi-mil run` takes this file or its folder.\n"
    text = header + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def packaged_config(name: str) -> Path:
    """Return a configuration that ships with the package, e.g. 'demo' (in a checkout: from configs/)."""
    here = Path(__file__).parent
    for path in (here / "packaged" / f"{name}.yaml", here.parents[1] / "configs" / f"{name}.yaml"):
        if path.is_file():
            return path
    raise ConfigError(f"no packaged configuration named {name!r}")


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is no override: write key.sub=value, for example tiles.mpp=1.0")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of override {override!r} is not readable YAML") from error
    node = raw
    *parents, last = key.split(".")
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is a value, not a block")
        node = child
    node[last] = value


def _explain(problem: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        return f"unknown key {key!r}. Nearest: {nearest(location[-1], known)}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    came = problem.get("input")
    shown = f", got {came!r}" if not isinstance(came, dict) else ""
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}{shown}"


def _known_keys(path: list[str]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            annotation = next((a for a in typing.get_args(annotation) if isinstance(a, type)), None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
