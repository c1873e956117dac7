"""Checks of a whole configuration before a run starts: names that exist, settings that fit the run folder."""

from wsi_mil.config.schema import RunConfig
from wsi_mil.errors import ConfigError

FEATURE_BLOCKS = ("tissue", "tiles", "encoder")
"""The blocks that decide which features a run has."""


def refuse_unknown_names(config: RunConfig) -> None:
    """Raise ConfigError for a name that does not exist, or names that do not fit together.

    Names are those of the reader, encoder, task and aggregators. An encoder must fit the scale of the tiles,
    an aggregator the task.
    """
    from wsi_mil.aggregators.names import AGGREGATORS
    from wsi_mil.encoders.names import check_encoder
    from wsi_mil.encoders.published import refuse_other_scale
    from wsi_mil.slides.opening import check_reader

    if config.slides.reader != "auto":
        check_reader(config.slides.reader)
    check_encoder(config.encoder.name)
    refuse_other_scale(config.encoder, config.tiles)
    for name in config.models:
        aggregator = config.train_spec(name).aggregator or name
        _ = AGGREGATORS[aggregator]
        if config.task.kind != "detection":  # every aggregator supports detection; asking one imports torch
            refuse_unsupported(aggregator, config.task.kind)


def refuse_unsupported(aggregator: str, task: str) -> None:
    """Raise ConfigError if there is no task of this name, or if the aggregator does not support it."""
    from wsi_mil.aggregators.catalog import refuse_kind
    from wsi_mil.tasks import task_class

    refuse_kind(aggregator, task_class(task).kind)


def require_detection(config: RunConfig, subcommand: str) -> None:
    """Raise ConfigError if a run has another task than detection and `subcommand` needs a normal class."""
    if config.task.kind != "detection":
        raise ConfigError(
            f"task.kind: {config.run} has task {config.task.kind}; `wsi-mil {subcommand}` needs detection, "
            "since it examines what makes a model call a slide positive"
        )


def refuse_other_features(config: RunConfig, saved: RunConfig) -> None:
    """Raise ConfigError if `config` asks for other slides, tiles or features than the `saved` one of its
    run."""
    for block in FEATURE_BLOCKS:
        if getattr(config, block) != getattr(saved, block):
            raise ConfigError(
                f"{block}: {saved.run} was made with other settings, and its features must not change: "
                f"leave `{block}` out, or give another run folder (run=PATH)"
            )
    if config.task != saved.task:
        raise ConfigError(
            f"task: {saved.run} has task {saved.task.kind}, for which its models were trained: "
            "leave `task` out, or give another run folder (run=PATH)"
        )
    if config.slides.folder != saved.slides.folder:
        raise ConfigError(
            f"slides.folder: {saved.run} holds the slides of {saved.slides.folder}: "
            "give another run folder (run=PATH)"
        )
