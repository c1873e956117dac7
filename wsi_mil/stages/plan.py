"""What `run` would do."""

from wsi_mil.config import RunConfig
from wsi_mil.io.files import digest_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import find_slides
from wsi_mil.stages.pipeline import STAGES


def plan(config: RunConfig) -> list[str]:
    """Return what `run` would do, in words, without doing any of it."""
    lines = [f"run folder   {config.run}" + (" (exists)" if config.run.exists() else "")]
    made = config.slides.folder is None and config.synthetic is not None
    if made and not (config.run / "cohort" / "cohort.json").exists() and config.synthetic is not None:
        count = 2 * config.synthetic.pairs + len(config.synthetic.odd)
        lines.append(f"synth        {count} synthetic slides into {config.run / 'cohort'}")
        return lines + [f"{stage:<12} would run" for stage in STAGES]
    slides = find_slides(config.slide_folder)
    run = RunFolder(config.run)
    tiled = sum(run.store(s.slide_id).tiles_digest() is not None for s in slides)
    extracted = sum(run.store(s.slide_id).stored_features(config.encoder.key) is not None for s in slides)
    lines.append(f"slides       {len(slides)} below {config.slide_folder}")
    lines.append(
        f"tile         {tiled} have tiles; asked: {config.tiles.size_px} px at {config.tiles.mpp:g} µm/px"
    )
    lines.append(f"extract      {extracted} have {config.encoder.key} features")
    trained = [name for name in config.models if (run.path / "models" / name).is_dir()]
    lines.append(
        f"train        models {', '.join(config.models)}; trained before: {', '.join(trained) or 'none'}"
    )
    if config.execution.cluster is not None:
        lines += config.execution.cluster.plan()
    lines.append(f"configuration digest {digest_json(config.model_dump(mode='json'))}")
    return lines
