"""Refuse a configuration that cannot work, before hours are spent on it."""

from wsi_mil.config.schema import RunConfig
from wsi_mil.errors import ConfigError

FEATURE_BLOCKS = ("tissue", "tiles", "encoder")
"""The blocks that decide which features a run has."""


def refuse_unknown_names(config: RunConfig) -> None:
    """Raise ConfigError for a reader, encoder or aggregator that does not exist, or an encoder at a wrong scale."""
    from wsi_mil.aggregators.names import AGGREGATORS
    from wsi_mil.encoders.names import check_encoder
    from wsi_mil.encoders.published import refuse_other_scale
    from wsi_mil.slides.opening import check_reader

    if config.slides.reader != "auto":
        check_reader(config.slides.reader)
    check_encoder(config.encoder.name)
    refuse_other_scale(config.encoder, config.tiles)
    for name in config.models:
        _ = AGGREGATORS[config.train_spec(name).aggregator or name]


def refuse_other_features(config: RunConfig, saved: RunConfig) -> None:
    """Raise ConfigError if `config` asks for other slides, tiles or features than the `saved` one of its run."""
    for block in FEATURE_BLOCKS:
        if getattr(config, block) != getattr(saved, block):
            raise ConfigError(
                f"{block}: {saved.run} was made with other settings, and its features must stay as they are: "
                f"leave `{block}` out, or give another run folder (run=PATH)"
            )
    if config.slides.folder != saved.slides.folder:
        raise ConfigError(
            f"slides.folder: {saved.run} holds the slides of {saved.slides.folder}: "
            "give another run folder (run=PATH)"
        )
