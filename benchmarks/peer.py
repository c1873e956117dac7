"""Features of one slide by another tool, as its documentation has them made; run by benchmarks/extraction.py,
in that tool's own environment (`--peer tiatoolbox=/path/to/its/python`). Needs nothing of wsi_mil.

The first call is not timed (imports, first allocations). Weights, slide and tiles are those of the caller.
"""

import argparse
import json
import platform
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import models

MEAN, STD, INPUT_PX = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224


def resnet18(weights: Path) -> torch.nn.Module:
    model = models.resnet18()
    model.load_state_dict(torch.load(weights))
    return model.eval()


def tiatoolbox(
    options: argparse.Namespace, coords: np.ndarray, workers: int
) -> tuple[str, float, np.ndarray, np.ndarray]:
    """DeepFeatureExtractor with CNNBackbone; tiles by a mask, resized by OpenCV in the workers."""
    import cv2
    from tiatoolbox import __version__
    from tiatoolbox.models.architecture.vanilla import CNNBackbone
    from tiatoolbox.models.engine.deep_feature_extractor import DeepFeatureExtractor
    from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig

    model = CNNBackbone("resnet18")
    model.feat_extract = torch.nn.Sequential(*list(resnet18(options.weights).children())[:-2])
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def prepare(image: np.ndarray) -> np.ndarray:
        return (cv2.resize(image, (INPUT_PX, INPUT_PX)) / np.float32(255) - mean) / std

    model.preproc_func = prepare
    side = options.slide_px // options.tile_px
    mask = np.zeros((side, side), np.uint8)
    mask[coords[:, 1] // options.tile_px, coords[:, 0] // options.tile_px] = 255
    mask = np.kron(mask, np.ones((8, 8), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        mask_path = Path(folder, "mask.png")
        cv2.imwrite(str(mask_path), mask)
        engine = DeepFeatureExtractor(model, batch_size=options.batch, num_workers=workers, verbose=False)
        settings = IOPatchPredictorConfig(
            input_resolutions=[{"units": "mpp", "resolution": options.mpp}],
            patch_input_shape=[options.tile_px] * 2,
            stride_shape=[options.tile_px] * 2,
        )
        started = time.perf_counter()
        found = engine.run(
            images=[options.slide],
            masks=[mask_path],
            patch_mode=False,
            ioconfig=settings,
            save_dir=Path(folder, "out"),
            output_type="zarr",
            overwrite=True,
            wsireader_kwargs={
                "mpp": (options.mpp, options.mpp)
            },  # it does not take the scale of plain TIFF files
        )
        seconds = time.perf_counter() - started
        import zarr

        written = zarr.open(str(next(iter(found.values()))), mode="r")
        return (
            __version__,
            seconds,
            np.asarray(written["coordinates"])[:, :2],
            np.asarray(written["features"]),
        )


def lazyslide(
    options: argparse.Namespace, coords: np.ndarray, workers: int
) -> tuple[str, float, np.ndarray, np.ndarray]:
    """tl.feature_extraction with a model and a torchvision transform; tiles are given as its own table."""
    import lazyslide as zs
    from torchvision.transforms import v2
    from wsidata import open_wsi

    model = resnet18(options.weights)
    model.fc = torch.nn.Identity()
    prepare = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((INPUT_PX, INPUT_PX)),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    folder = tempfile.mkdtemp()
    try:
        slide = open_wsi(str(options.slide), store=str(Path(folder, "wsi.zarr")))
        zs.pp.tile_tissues(slide, options.tile_px, mpp=options.mpp, tissue_key=None, background_filter=False)
        wanted = set(map(tuple, coords.tolist()))
        tiles = slide.shapes["tiles"]
        corners = tiles.geometry.bounds[["minx", "miny"]].to_numpy().astype(int)
        slide.shapes["tiles"] = tiles[[tuple(corner) in wanted for corner in corners.tolist()]].reset_index(
            drop=True
        )
        corners = slide.shapes["tiles"].geometry.bounds[["minx", "miny"]].to_numpy().astype(int)
        started = time.perf_counter()
        rows = zs.tl.feature_extraction(
            slide,
            model,
            model_name="bench",
            transform=prepare,
            device="cpu",
            batch_size=options.batch,
            num_workers=workers,
            pbar=False,
            return_features=True,
        )
        return zs.__version__, time.perf_counter() - started, corners, np.asarray(rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


TOOLS = {"tiatoolbox": tiatoolbox, "lazyslide": lazyslide}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--coords", type=Path, required=True, help=".npy, (N, 2) level-0 px")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slide-px", type=int, required=True)
    parser.add_argument("--tile-px", type=int, required=True)
    parser.add_argument("--mpp", type=float, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    coords = np.load(options.coords)
    run = TOOLS[options.tool]
    run(options, coords[: 2 * options.batch], 0)
    best: dict[str, Any] = {}
    features = at = np.empty(0)
    for workers in (0, options.threads):
        version, seconds, corners, rows = run(options, coords, workers)
        if not best or len(rows) / seconds > best["tiles_per_s"]:
            best = {
                "version": version,
                "workers": workers,
                "tiles": len(rows),
                "tiles_per_s": len(rows) / seconds,
            }
            features, at = rows, corners
    best |= {"tool": options.tool, "torch": torch.__version__, "python": platform.python_version()}
    best["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    np.savez(options.out, features=features.reshape(len(features), -1), coords=at, info=json.dumps(best))


if __name__ == "__main__":
    main()
