"""The study of poolings, in small: reading the zip files, the paper's ramps, a table with every pooling."""

import argparse
import io
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.image_pooling import study, table
from pipelines.pooling.images import Pictures, read_cifar, read_tiny_imagenet
from pipelines.pooling.models import POOLINGS
from pipelines.pooling.schedule import Schedule
from pipelines.pooling.training import augmented, blind_position, measure, pace, train
from wsi_mil.errors import DataError
from wsi_mil.io.json import read_json, write_json


def picture(rng: np.random.Generator, side: int, colour: int) -> bytes:
    pixels = rng.integers(0, 60, (side, side, 3)).astype(np.uint8)
    pixels[..., colour] += 150
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, rng = tmp_path_factory.mktemp("zips"), np.random.default_rng(0)
    cifar, tiny = folder / "cifar.zip", folder / "tiny.zip"
    with zipfile.ZipFile(cifar, "w") as file:
        for part, count in (("test", 4), ("train", 10)):
            for colour, name in enumerate(("cat", "dog")):
                for i in range(count):
                    file.writestr(f"{part}/{name}/{i}.jpg", picture(rng, 32, colour))
    with zipfile.ZipFile(tiny, "w") as file:
        file.writestr("wnids.txt", "n2\tdugong\nn1\tkoala\n")
        rows = []
        for label, wnid in enumerate(("n2", "n1")):
            lines = [f"{wnid}_{i}.JPEG\t{i}\t2\t40\t50" for i in range(6)]
            file.writestr(
                f"train/{wnid}/{wnid}_boxes.txt", "\n".join([*lines, f"{wnid}_gone.JPEG\t0\t0\t1\t1"])
            )
            for i in range(6):
                file.writestr(f"train/{wnid}/images/{wnid}_{i}.JPEG", picture(rng, 64, label))
            for i in range(3):
                file.writestr(f"val/images/val_{wnid}{i}.JPEG", picture(rng, 64, label))
                rows.append(f"val_{wnid}{i}.JPEG\t{wnid}\t0\t0\t63\t63")
        file.writestr("val/val_annotations.txt", "\n".join(rows))
    return cifar, tiny


def test_pictures_labels_and_boxes(zips: tuple[Path, Path]) -> None:
    training, test = read_cifar(zips[0])
    assert training.pixels.shape == (20, 3, 32, 32)
    assert test.labels.tolist() == [0] * 4 + [1] * 4
    assert (training.pixels.float().mean((2, 3)).argmax(1) == training.labels).all()
    assert not training.boxes.any()
    training, test = read_tiny_imagenet(zips[1])
    assert training.boxes[:2].tolist() == [[0, 2, 41, 51], [1, 2, 41, 51]]  # the last pixel is inside
    assert len(training) == 12  # the picture that is not there has no row
    assert (test.pixels.float().mean((2, 3)).argmax(1) == test.labels).all()
    few = training.few(6, torch.Generator().manual_seed(0))
    assert few.labels.tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="the smallest class has 6"):
        training.few(14, torch.Generator())


def test_other_files_are_refused(zips: tuple[Path, Path], tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.zip", Path(__file__)):
        with pytest.raises(DataError, match=f"{path.name} cannot be read as the zip file"):
            read_cifar(path)
    with pytest.raises(DataError, match=r"cifar\.zip cannot be read .* no item named 'wnids\.txt'"):
        read_tiny_imagenet(zips[0])


def test_the_papers_ramps() -> None:
    rates = [pace(epoch, 200) for epoch in range(200)]
    assert rates[0][0] == pytest.approx(math.exp(-5 * (79 / 80) ** 2))
    assert all(rate == (1.0, 0.9, 0.999) for rate in rates[80:150])
    assert rates[79][0] == 1
    assert rates[175][0] == pytest.approx(math.exp(-12.5 * 0.5**2))
    assert rates[175][1] == pytest.approx(0.7)
    assert rates[40][2] == 0.99


def test_every_pooling_trains_and_points_somewhere(zips: tuple[Path, Path]) -> None:
    training, test = read_tiny_imagenet(zips[1])
    for pooling in POOLINGS:
        model = train(pooling, training, 1, 0, "cpu", cal_views=True)
        with torch.no_grad():
            logits, maps = model(torch.rand(2, 3, 64, 64))
        assert logits.shape == (2, 2)
        assert maps.shape == (2, 4, 4)
        found = measure(model, test, "cpu")
        assert found.top_position == 1  # the box is the picture
        assert 0 <= found.accuracy <= 1


def test_the_top_position_must_lie_in_the_box() -> None:
    class Corner(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            maps = torch.zeros(len(images), 4, 4)
            maps[:, 0, 3] = 1
            return torch.tensor([[1.0, 0.0]]).expand(len(images), 2), maps

    images = Pictures(
        torch.zeros(3, 3, 32, 32, dtype=torch.uint8),
        torch.tensor([0, 1, 0]),
        torch.tensor([[24, 0, 32, 8], [0, 0, 27, 32], [20, 0, 28, 8]]),
    )
    found = measure(Corner(), images, "cpu")  # type: ignore[arg-type]
    assert found.as_json() == {"accuracy": pytest.approx(2 / 3), "top position": pytest.approx(2 / 3)}

    # patches on the object: one for the first box, all but the last column for the second, and for the third
    # the two that it half covers
    assert blind_position(images) == pytest.approx((1 + 12 + 2) / 16 / 3)


def test_cut_outs_are_shifted_copies() -> None:
    images = torch.arange(1, 65.0).view(1, 1, 8, 8).expand(40, 3, 8, 8)
    found = augmented(images, torch.Generator().manual_seed(0))
    assert found.shape == images.shape
    kept = [int((one > 0).sum()) // 3 for one in found]
    assert set(kept) == {64, 56, 49}  # nothing, one row or column, or one of each is cut off


def test_the_table_and_going_on(
    zips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("cifar 1,000", "cifar 5,000", "tiny")
    small = Schedule(dict.fromkeys(names, 1), 4, 1, False, dict.fromkeys(names, 8))
    options = argparse.Namespace(cifar=zips[0], tiny=zips[1], device="cpu", sets=list(names), out=tmp_path)
    first = table(study(options, small))
    lines = first.splitlines()
    assert len(lines) == 2 + len(POOLINGS)
    assert lines[0].count("|") == 6

    record = tmp_path / "image_pooling.json"
    written = read_json(record)
    lost = written["measures"].pop("tiny/0/max")
    write_json(record, written)
    trained = []
    monkeypatch.setattr(
        "pipelines.image_pooling.train",
        lambda pooling, *rest: trained.append(pooling) or train(pooling, *rest),
    )
    assert table(study(options, small)) == first
    assert trained == ["max"]
    assert read_json(record)["measures"]["tiny/0/max"] == lost
    with pytest.raises(DataError, match="another schedule"):
        study(options, replace(small, seeds=2))
