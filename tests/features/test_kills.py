"""Extraction that is killed fifty times and then resumed writes the same bytes as one that is not disturbed.

Also: a disk that is really full, and a slide that is replaced after it was tiled.
"""

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.features.kill_extraction import jobs
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import StoreError
from wsi_mil.features import SlideStore
from wsi_mil.io.files import fingerprint
from wsi_mil.slides import open_slide
from wsi_mil.stages.extract import extract_many
from wsi_mil.synthetic.writing import write_pyramid
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

ROOT = Path(__file__).parents[2]
KILLS = 50


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number, (width, height) in enumerate([(512, 384), (256, 320), (640, 256)]):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        write_pyramid(folder / f"s{number}.tiff", pixels, (1.0, 1.0), factor=0)
    return folder


def tiled(slides: Path, stores: Path) -> Path:
    for path in sorted(slides.glob("*.tiff")):
        with open_slide(path) as slide:
            table = tile_slide(
                slide.info, find_tissue(slide, TissueSpec(method="whole")), TileSpec(mpp=1.0, size_px=64)
            )
            SlideStore(stores / f"{path.stem}.zarr", path.stem).write_tiles(
                table, slide.info, "made", fingerprint(path)
            )
    return stores


def run(*arguments: object) -> dict[str, float]:
    command = [sys.executable, "-W", "error", "-m", "tests.features.kill_extraction", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def contents(stores: Path) -> dict[str, bytes]:
    return {str(p.relative_to(stores)): p.read_bytes() for p in stores.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_fifty_kills_and_a_resume_give_the_bytes_of_an_undisturbed_run(slides: Path, tmp_path: Path) -> None:
    undisturbed, killed = tiled(slides, tmp_path / "a"), tiled(slides, tmp_path / "b")
    run(slides, undisturbed, 0)
    told = run(slides, killed, KILLS)
    assert told["kills"] == KILLS
    assert told["with_half_written"] >= 5, "the kills must hit the writing, or this test shows nothing"
    assert contents(killed) == contents(undisturbed)
    assert len(contents(killed)) >= 3 * 10


@pytest.mark.slow
def test_a_full_disk_fails_the_slide_and_leaves_nothing(slides: Path, tmp_path: Path) -> None:
    """The kernel refuses files of more than 4 KiB, like a full disk; without that the run continues."""
    stores = tiled(slides, tmp_path / "stores")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def no_space() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))

    code = (
        "import sys; from pathlib import Path; from tests.features.kill_extraction import jobs; "
        "from wsi_mil.stages.extract import extract_many; "
        "print([(o.status, o.reason) for o in extract_many(jobs(Path(sys.argv[1]), Path(sys.argv[2])))])"
    )
    command = [sys.executable, "-c", code, str(slides), str(stores)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, preexec_fn=no_space, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("cannot be written: File too large") == 3, result.stdout
    for path in stores.glob("*.zarr"):
        store = SlideStore(path, path.stem)
        assert store.encoders() == []
        assert not list(path.rglob("*.tmp"))
        with pytest.raises(StoreError, match="wsi-mil extract"):
            store.read_features("texture")
    run(slides, stores, 0)
    assert all(SlideStore(path, path.stem).encoders() == ["texture"] for path in stores.glob("*.zarr"))


def test_a_slide_replaced_after_it_was_tiled_is_refused(slides: Path, tmp_path: Path) -> None:
    """With the same name and size, its features would be stored for the tiles of the other slide."""
    own = tmp_path / "slides"
    shutil.copytree(slides, own)
    stores = tiled(own, tmp_path / "stores")
    pixels = np.random.default_rng(99).integers(0, 255, (512, 384, 3), dtype=np.uint8)[:384, :512]
    write_pyramid(own / "s0.tiff", pixels, (1.0, 1.0), factor=0)
    found = {outcome.slide_id: outcome for outcome in extract_many(jobs(own, stores))}
    assert found["s0"].status == "failed"
    words = r"slide 's0': its file is not the one that was tiled \(.*s0\.tiff\. Run `wsi-mil tile` first"
    assert re.fullmatch(words, found["s0"].reason)
    assert {found[name].status for name in ("s1", "s2")} == {"done"}
