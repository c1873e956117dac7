"""From a YAML file to a valid RunConfig, and back: a run keeps its resolved configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from wsi_mil.config.messages import explain, problems_in
from wsi_mil.config.overrides import SEEDED, apply_overrides
from wsi_mil.config.references import refuse_untrusted_values, trust_values
from wsi_mil.config.schema import RunConfig
from wsi_mil.config.yaml_values import Values, read_values
from wsi_mil.contracts.spec import Spec
from wsi_mil.errors import ConfigError
from wsi_mil.io.files import digest_bytes, write_text
from wsi_mil.logs import logger
from wsi_mil.paths import child

S = TypeVar("S", bound=Spec)
DIGEST = "# content_digest: "
"""What begins the line of a saved configuration with the digest of all that follows."""


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Return the configuration in a YAML file (or in a run folder), with `key.sub=value` overrides on top.

    Code that an override names is trusted from then on in this process: no file has said it, but the caller.
    Raises ConfigError that names every wrong key or value, with what was expected and the nearest known key,
    and TrustError for a value that decides which code runs (`package.module:Name`, commands of cluster jobs)
    and is not trusted.
    """
    path = Path(path)
    folder = path if path.is_dir() else None
    if folder is not None:
        path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"no configuration at {path}: give a YAML file or a run folder")
    values = read_values(path)
    note_edits(path)
    if folder is not None:
        values["run"] = str(folder)  # a run folder may have been moved, or be called from elsewhere
    typed: Values = {}
    apply_overrides(typed, overrides)
    trust_values(typed)
    apply_overrides(values, overrides)
    return parse_config(values, str(path))


def parse_config(values: Values, source: str = "configuration") -> RunConfig:
    """Return the RunConfig of plain values; `seed` becomes the seed of every block that sets none.

    source: named in error messages.

    >>> parse_config({"run": "runs/x", "seed": 3}).split.seed
    3
    """
    refuse_untrusted_values(source, values)
    seed = values.get("seed")
    for name in SEEDED:
        block = values.setdefault(name, {}) if isinstance(seed, int) else None
        if isinstance(block, dict):
            block.setdefault("seed", seed)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(problems_in(error), RunConfig)}") from error
    for name in config.models:
        try:
            config.train_spec(name)
        except ValidationError as error:
            problems = problems_in(error, ("models", name))
            raise ConfigError(f"{source}: {explain(problems, RunConfig)}") from error
    return config


def note_edits(path: Path) -> None:
    """Warn if a saved configuration is not what the run wrote: a user may edit it, a disk may damage it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    _, mark, rest = text.partition(f"\n{DIGEST}")
    expected, _, body = rest.partition("\n")
    if mark and digest_bytes(body.encode()) != expected:
        logger().warning("%s was edited since the run wrote it, or is damaged: it is used as it is", path)


def with_trained(config: RunConfig) -> RunConfig:
    """Return `config` with the models that its run folder has trained put in front: a run keeps its
    models."""
    saved = config.run / "config.yaml"
    if not saved.is_file():
        return config
    before = {
        name: own
        for name, own in load_config(saved).models.items()
        if child(config.run / "models", name, "model name", config.run).is_dir()
    }
    return config.model_copy(update={"models": {**before, **config.models}})


def checked(kind: type[S], values: Mapping[str, object]) -> S:
    """Return `kind(**values)`. Raises ConfigError in one line for wrong values."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(problems_in(error), kind)) from error


def save_config(config: RunConfig, path: Path) -> None:
    """Write the resolved configuration, so that the run can be repeated from its own folder."""
    header = "# The resolved configuration of this run: `wsi-mil run` takes this file or its folder.\n"
    body = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    text = f"{header}{DIGEST}{digest_bytes(body.encode())}\n{body}"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def packaged_config(name: str) -> Path:
    """Return the path of a configuration that ships with the package, e.g. 'demo' (in a checkout: from
    configs/)."""
    here = Path(__file__).parent
    for path in (here / "packaged" / f"{name}.yaml", here.parents[1] / "configs" / f"{name}.yaml"):
        if path.is_file():
            return path
    raise ConfigError(f"no configuration named {name!r} ships with the package")
