"""Forward, losses and gradients against the published code of each method, for whatever seeds and bags the
files hold."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as binary_cross_entropy

from pipelines.mnist.front_end import ImageFrontEnd, LeNet
from tests.aggregators.reference import DTYPES, Reference, linear, total
from wsi_mil.aggregators.clam import CLAM
from wsi_mil.aggregators.methods.abmil import ABMIL
from wsi_mil.aggregators.methods.clam_mb import CLAMMB
from wsi_mil.aggregators.methods.clam_sb import CLAMSB
from wsi_mil.aggregators.methods.dsmil import DSMIL, stream_losses
from wsi_mil.testing.aggregators import detection_loss

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])


@pytest.mark.parametrize("gated", [False, True])
def test_abmil_equals_its_reference(reference_folder: Path, dtype: torch.dtype, gated: bool) -> None:
    ref = Reference(reference_folder, "abmil_gated" if gated else "abmil", dtype)
    theirs = (
        ("attention_V.0", "attention_U.0", "attention_w") if gated else ("attention.0", None, "attention.2")
    )
    names = linear(
        {
            "embed.0": "feature_extractor_part2.fc",
            "attention.V": theirs[0] or "",
            **({"attention.U": theirs[1]} if theirs[1] else {}),
            "attention.w": theirs[2] or "",
            "classifier": "classifier.0",
        }
    )
    hidden, dim = ref.shape("feature_extractor_part2.fc.weight")
    model = ABMIL(dim, 1, (hidden,), ref.shape(f"{theirs[0]}.weight")[0], gated=gated)
    ref.load(model, names)
    for bag in ref.bags:
        check_abmil(ref, model, names, bag, ref.x(bag))
    assert ref.compared > 30


def test_abmil_on_images_equals_its_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    ref = Reference(reference_folder, "abmil_mnist_images", dtype)
    names = linear(
        {
            "front.conv1": "feature_extractor_part1.0",
            "front.conv2": "feature_extractor_part1.3",
            "aggregator.embed.0": "feature_extractor_part2.0",
            "aggregator.attention.V": "attention.0",
            "aggregator.attention.w": "attention.2",
            "aggregator.classifier": "classifier.0",
        }
    )
    hidden, dim = ref.shape("feature_extractor_part2.0.weight")
    aggregator = ABMIL(dim, 1, (hidden,), ref.shape("attention.0.weight")[0])
    model = ImageFrontEnd(LeNet(), aggregator)
    ref.load(model, names)
    for bag in ref.bags:
        x = ref.x(bag)
        check_abmil(ref, model, names, bag, x)
        assert x.grad is not None
        ref.close(x.grad.norm(dim=1), f"bag{bag}/grad_x_norm", gradient=True)
    assert ref.compared > 30


def check_abmil(ref: Reference, model: nn.Module, names: dict[str, str], bag: int, x: Tensor) -> None:
    output = model(ref.pack(x))
    ref.close(output.bag_logits, f"bag{bag}/logit")
    ref.close(output.bag_logits.sigmoid(), f"bag{bag}/prob")
    ref.close(output.instance_scores, f"bag{bag}/attention")
    ref.close(output.extras["attention_raw"], f"bag{bag}/attention_raw")
    ref.close(output.extras["h"], f"bag{bag}/H")
    for k in (0, 1):
        ref.close(model.loss(output, torch.tensor([k]), detection_loss(model))["bag"], f"bag{bag}/y{k}/loss")
    loss = model.loss(output, torch.tensor([ref.label(bag)]), detection_loss(model))["bag"]
    ref.gradients(
        model, names, x, f"bag{bag}", loss, shift_free=("attention.w.bias", "aggregator.attention.w.bias")
    )


@pytest.mark.parametrize("name", ["clam_sb", "clam_mb", "clam_mb_3class"])
def test_clam_equals_its_reference(reference_folder: Path, dtype: torch.dtype, name: str) -> None:
    ref = Reference(reference_folder, name, dtype)
    hidden, dim = ref.shape("attention_net.0.weight")
    attention = ref.shape("attention_net.3.attention_a.0.weight")[0]
    classes = sum(key.startswith("param/instance_classifiers") for key in ref.stored) // 2
    single = name == "clam_sb"
    heads = (
        {"classifier": "classifiers"}
        if single
        else {f"classifiers.{k}": f"classifiers.{k}" for k in range(classes)}
    )
    names = linear(
        {
            "embed": "attention_net.0",
            "attention.V": "attention_net.3.attention_a.0",
            "attention.U": "attention_net.3.attention_b.0",
            "attention.w": "attention_net.3.attention_c",
            **heads,
            **{f"instance_classifiers.{k}": f"instance_classifiers.{k}" for k in range(classes)},
        }
    )
    for bag in ref.bags:
        for subtyping in (False, True):
            for kind in ("ce", "svm"):
                model = (CLAMSB if single else CLAMMB)(
                    dim, classes, hidden, attention, instance_loss=kind, subtyping=subtyping, dropout=0
                )
                ref.load(model, names)
                check_clam(ref, model, names, bag, f"sub{int(subtyping)}/{kind}")
    assert ref.compared > 100


def check_clam(ref: Reference, model: CLAM, names: dict[str, str], bag: int, variant: str) -> None:
    x = ref.x(bag)
    output = model(ref.pack(x))
    ref.close(output.bag_logits, f"bag{bag}/logits")
    ref.close(model.probabilities(output.bag_logits), f"bag{bag}/prob")
    ref.close(output.extras["attention_raw"].T, f"bag{bag}/attention_raw")
    ref.close(output.extras["weights"].T, f"bag{bag}/attention")
    ref.close(output.extras["h"], f"bag{bag}/h")
    for k in ref.labels_of(bag):
        labels = torch.tensor([k])
        for kind in ("ce", "svm"):
            model.bag_loss = kind  # type: ignore[assignment]
            ref.close(
                model.loss(output, labels, detection_loss(model))["bag"] / model.bag_weight,
                f"bag{bag}/y{k}/bag_loss_{kind}",
            )
        model.bag_loss = "ce"
        block = f"bag{bag}/y{k}/{variant}"
        if f"{block}/inst_loss" not in ref:
            continue
        ref.close(model.clustering_loss(output, labels), f"{block}/inst_loss")
        ref.close(total(model.loss(output, labels, detection_loss(model))), f"{block}/total_loss")
        if k == ref.label(bag):
            shift_free = ("attention.w.bias",)
            ref.gradients(
                model, names, x, block, total(model.loss(output, labels, detection_loss(model))), shift_free
            )


@pytest.mark.parametrize("name", ["dsmil", "dsmil_2class"])
def test_dsmil_equals_its_reference(reference_folder: Path, dtype: torch.dtype, name: str) -> None:
    ref = Reference(reference_folder, name, dtype)
    classes, dim = ref.shape("i_classifier.fc.0.weight")
    learned = "param/b_classifier.v.1.weight" in ref
    names = linear(
        {
            "instance_classifier": "i_classifier.fc.0",
            "query.0": "b_classifier.q.0",
            "query.2": "b_classifier.q.2",
            **({"value.0": "b_classifier.v.1"} if learned else {}),
            "bag_classifier": "b_classifier.fcc",
        }
    )
    query = ref.shape("b_classifier.q.0.weight")[0]
    model = DSMIL(dim, classes, query, "learned" if learned else "identity")
    ref.load(model, names)
    for bag in ref.bags:
        x = ref.x(bag)
        output = model(ref.pack(x))
        extras = output.extras
        ref.close(extras["instance_logits"], f"bag{bag}/instance_logits")
        ref.close(extras["critical"], f"bag{bag}/critical_index")
        ref.close(extras["queries"], f"bag{bag}/queries")
        ref.close(extras["attention_raw"], f"bag{bag}/attention_raw_unscaled")
        ref.close(extras["weights"], f"bag{bag}/attention")
        ref.close(output.bag_logits, f"bag{bag}/logits")
        for block in sorted({k.split("/")[1] for k in ref.stored if k.startswith(f"bag{bag}/y")}):
            targets = torch.tensor([[float(digit) for digit in block[1:]]], dtype=dtype)
            terms = stream_losses(output, partial(binary_cross_entropy, target=targets))
            ref.close(2 * terms["bag"], f"bag{bag}/{block}/bag_loss")
            ref.close(2 * terms["max"], f"bag{bag}/{block}/max_loss")
            ref.close(total(terms), f"bag{bag}/{block}/loss")
        own = torch.from_numpy(ref.stored[f"bag{bag}/label"].reshape(1, -1)).to(dtype)
        ref.gradients(
            model,
            names,
            x,
            f"bag{bag}",
            total(stream_losses(output, partial(binary_cross_entropy, target=own))),
        )
    assert ref.compared > 40
