"""Slides behind URLs, and runs copied to an object store and back: fsspec's in-memory store
is used in place of S3."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from wsi_mil.cli.main import main
from wsi_mil.config.loading import load_config, parse_config
from wsi_mil.errors import ConfigError, DataError, SlideError
from wsi_mil.interop.object_store import MANIFEST, RemoteRun, pull, push
from wsi_mil.io.files import fingerprint
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import find_slides, open_slide
from wsi_mil.stages import run_stage

URL = "memory://bucket/slides"


@pytest.fixture
def bucket(work_here: None, cohort: Path) -> Iterator[Any]:
    """Two slides of the cohort, one in a folder, and a file that is no slide, in memory."""
    files = fsspec.filesystem("memory")
    first, second = sorted((cohort / "slides").glob("*.tif*"))[:2]
    files.pipe_file(f"/bucket/slides/{first.name}", first.read_bytes())
    files.pipe_file(f"/bucket/slides/more/{second.name}", second.read_bytes())
    files.pipe_file("/bucket/slides/notes.txt", b"no slide")
    yield files
    files.rm("/bucket", recursive=True)


def test_slides_behind_a_url_are_found_and_read(bucket: Any, cohort: Path) -> None:
    first, second = sorted((cohort / "slides").glob("*.tif*"))[:2]
    found = find_slides(URL)
    assert [slide.slide_id for slide in found] == sorted([first.stem, f"more/{second.stem}"])
    at = {slide.slide_id: str(slide.path) for slide in found}[first.stem]
    assert at.endswith(f"/bucket/slides/{first.name}")
    with open_slide(at) as remote, open_slide(first, reader="tiffslide") as local:
        assert remote.info.reader == "tiffslide"
        assert (remote.info.slide_id, remote.info.mpp, remote.info.level_sizes_px) == (
            first.stem,
            local.info.mpp,
            local.info.level_sizes_px,
        )
        assert (remote.read_region(200, 300, 0, 256, 128) == local.read_region(200, 300, 0, 256, 128)).all()


@pytest.mark.slow
def test_a_run_on_slides_behind_a_url(
    bucket: Any, cohort: Path, quick_config: dict[str, Any], tmp_path: Path
) -> None:
    """The same features as from local files by the same reader; a slide replaced behind its URL is made
    again."""
    first, second = sorted((cohort / "slides").glob("*.tif*"))[:2]
    (tmp_path / "local" / "more").mkdir(parents=True)
    shutil.copy(first, tmp_path / "local" / first.name)
    shutil.copy(second, tmp_path / "local" / "more" / second.name)
    digests = []
    for name, folder in (("local_run", str(tmp_path / "local")), ("remote_run", URL)):
        slides = {"folder": folder, "reader": "tiffslide"}
        config = parse_config({**quick_config, "run": str(tmp_path / name), "slides": slides})
        assert run_stage(config, "tile").work["tile"] == 2
        assert run_stage(config, "extract").work["extract"] == 2
        run = RunFolder(tmp_path / name)
        stores = [run.store(slide_id) for slide_id in run.stored_slides()]
        digests.append(
            [
                (s.slide_id, s.tiles_digest(), stored.digest)
                for s in stores
                if (stored := s.stored_features("texture")) is not None
            ]
        )
    assert len(digests[0]) == 2
    assert digests[0] == digests[1]
    saved = load_config(tmp_path / "remote_run")
    assert saved.slides.folder == URL
    assert run_stage(saved, "tile").work["tile"] == 0
    bucket.pipe_file(f"/bucket/slides/{first.name}", second.read_bytes())
    assert run_stage(saved, "tile").work["tile"] == 1


def test_mistakes_with_urls_are_explained(bucket: Any, cohort: Path) -> None:
    with pytest.raises(DataError, match=r"nothing at memory://bucket/none: check the address"):
        find_slides("memory://bucket/none")
    with pytest.raises(
        SlideError, match=r"slides.reader=openslide reads local files; behind URLs only tiffslide"
    ):
        open_slide(str(find_slides(URL)[0].path), reader="openslide")
    with pytest.raises(ConfigError, match=r"URLs of the protocol 'nowhere' are not read"):
        find_slides("nowhere://a/b")
    with pytest.raises(ConfigError, match=r"reading gs:// needs another package: pip install gcsfs"):
        open_slide("gs://bucket/a.svs")
    with pytest.raises(DataError, match=r"memory://bucket/none.svs cannot be reached"):
        fingerprint("memory://bucket/none.svs")
    with pytest.raises(SlideError, match=r"cannot be opened by tiffslide"):
        open_slide(f"{URL}/notes.txt")


def same_files(a: Path, b: Path) -> bool:
    def listed(folder: Path) -> dict[str, bytes]:
        names = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in names}

    return listed(a) == listed(b)


def test_a_run_goes_to_an_object_store_and_back(small_run: Path, tmp_path: Path, bucket: Any) -> None:
    run, url, back = tmp_path / "run", "memory://bucket/runs/one", tmp_path / "back"
    shutil.copytree(small_run, run)
    slides = RunFolder(run).stored_slides()
    found = push(RunFolder(run), url)
    assert (found.copied, found.same, found.incomplete) == (len(slides) + 1, 0, ())
    assert push(RunFolder(run), url).copied == 0
    assert pull(url, back).copied == len(slides) + 1
    assert same_files(run, back)
    assert pull(url, back).copied == 0
    # one slide's store changes: it alone travels, and what it lost is gone there too
    store = RunFolder(run).store(slides[0])
    shutil.rmtree(store.path / "features")
    assert (push(RunFolder(run), url).copied, pull(url, back).copied) == (
        1,
        0,
    )  # what the copy holds besides stays
    shutil.rmtree(RunFolder(back).store(slides[0]).path)
    assert pull(url, back).copied == 1
    assert RunFolder(back).store(slides[0]).encoders() == []
    # a store that is not whole stays here, one that was damaged there is refused
    (RunFolder(run).store(slides[1]).path / "tiles" / "zarr.json").unlink()
    assert push(RunFolder(run), url).incomplete == (slides[1],)
    unit = store.path.relative_to(run).as_posix()
    bucket.pipe_file(f"/bucket/runs/one/{unit}/zarr.json", b"{}")
    shutil.rmtree(back)
    with pytest.raises(DataError, match=r"zarr.json does not match its digest: push the run again"):
        pull(url, back)
    assert not RunFolder(back).store(slides[0]).path.exists()
    bucket.pipe_file(f"/bucket/runs/one/{unit}{MANIFEST}", b'{"../../outside": "x"}')
    with pytest.raises(DataError, match=r"names a file outside of its unit: '../../outside'"):
        pull(url, back)


@pytest.mark.parametrize(
    ("unit", "manifest", "expected"),
    [
        ("run", {"../outside": "x"}, "outside of its unit"),
        ("run", {"/etc/x": "x"}, "absolute path"),
        ("run", {".ssh/keys": "x"}, "no hidden file"),
        ("run", {"slides/a.zarr/zarr.json": "x"}, "no store of a slide"),
        ("outside", {"x": "x"}, "holds 'outside'"),
        ("slides/../outside.zarr", {"x": "x"}, r"has the part '\.\.'"),
        ("slides/link/a.zarr", {"x": "x"}, "is a link to"),
    ],
)
def test_a_hostile_object_store_writes_nothing(
    bucket: Any, tmp_path: Path, unit: str, manifest: dict[str, str], expected: str
) -> None:
    url, run = "memory://bucket/hostile", tmp_path / "run"
    (run / "slides").mkdir(parents=True)
    (run / "slides" / "link").symlink_to(tmp_path)
    bucket.pipe_file(f"/bucket/hostile/run{MANIFEST}", b"{}")
    bucket.pipe_file(f"/bucket/hostile/{unit}/x", b"x")
    bucket.pipe_file(f"/bucket/hostile/{unit}{MANIFEST}", json.dumps(manifest).encode())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=expected):
        pull(url, run)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_no_run_is_not_pulled_into(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe_file(f"/bucket/hostile/run{MANIFEST}", b"{}")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"holds thesis\.tex and is no run"):
        pull("memory://bucket/hostile", tmp_path / "home")


@pytest.mark.parametrize("url", ["reference://x", "dask://x", "s3://a::file:///etc/x", "memory://a::b"])
def test_urls_that_name_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not read"):
        find_slides(url)


def test_a_push_that_is_cut_short_leaves_no_half_unit(
    small_run: Path, tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server fails at the n-th file: whatever has a manifest is whole, and the next push ends what is
    left."""
    url = "memory://bucket/runs/two"
    write, left = type(bucket).put_file, [25]

    def failing(self: Any, source: str, target: str, *arguments: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("503 slow down")
        write(self, source, target, *arguments, **named)

    monkeypatch.setattr(type(bucket), "put_file", failing)
    with pytest.raises(
        DataError, match=r"memory://bucket/runs/two: writing failed \(OSError: 503 slow down\)"
    ):
        push(RunFolder(small_run), url)
    monkeypatch.undo()
    remote = RemoteRun(url)
    for unit in remote.units():
        manifest = remote.manifest(unit) or {}
        assert manifest
        for name, digest in manifest.items():
            remote.get(unit, name, digest, tmp_path / "x" / "file")
    with pytest.raises(DataError, match="holds no run that was pushed to its end"):
        pull(url, tmp_path / "back")
    push(RunFolder(small_run), url)
    pull(url, tmp_path / "back")
    assert same_files(small_run, tmp_path / "back")
    assert bucket.exists(f"/bucket/runs/two/run{MANIFEST}")


def test_the_subcommands(
    small_run: Path, tmp_path: Path, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        return int(stop.value.code or 0)

    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    assert code("push", str(run), "memory://bucket/runs/three") == 0
    assert "copied, 0 were there" in capsys.readouterr().out
    assert code("pull", "memory://bucket/runs/three", str(tmp_path / "back")) == 0
    assert code("check", str(tmp_path / "back"), "--deep") == 0
    assert code("check", URL) == 0
    assert "2 of 2 slides can be used" in capsys.readouterr().out
    assert code("push", str(run), "here") != 0
    assert "is not a URL" in capsys.readouterr().err
    assert code("push", str(tmp_path), "memory://bucket/runs/four") != 0
    assert "is not a run folder" in capsys.readouterr().err
