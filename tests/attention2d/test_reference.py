"""CAL and GAIN against the outputs of their published code."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.aggregators.reference import DTYPES, Reference
from wsi_mil.attention2d import CAL, GAIN, bilinear_attention_pooling
from wsi_mil.attention2d.cal import crop, drop
from wsi_mil.attention2d.cam import channel_weights, weighted_map
from wsi_mil.attention2d.gain import scaled_map

CAL_NAMES = {
    "attentions.conv.weight": "attentions.conv.weight",
    "attentions.bn.weight": "attentions.bn.weight",
    "attentions.bn.bias": "attentions.bn.bias",
    "attentions.bn.running_mean": "attentions.bn.running_mean",
    "attentions.bn.running_var": "attentions.bn.running_var",
    "fc.weight": "fc.weight",
}


class Small(nn.Module):
    """The little network in which the files' attention was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 5))

    def head(self) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), self.classifier)


def load_cal(reference: Reference) -> CAL:
    classes, width = reference.shape("fc.weight")
    maps, channels = reference.shape("attentions.conv.weight")[:2]
    assert width == maps * channels
    model = CAL(nn.Identity(), channels, classes, maps=maps)
    theirs = {key.removeprefix("param/") for key in reference.stored if key.startswith("param/")}
    assert set(CAL_NAMES.values()) == theirs
    state = {ours: torch.from_numpy(reference.stored[f"param/{name}"]) for ours, name in CAL_NAMES.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["centres"]
    assert not unexpected
    return model.to(reference.dtype)


def cal_of(reference: Reference, bag: int) -> None:
    model = load_cal(reference)
    x = reference.tensor(f"bag{bag}/x").requires_grad_()
    block = f"bag{bag}/"
    model.eval()
    found = model(x)
    reference.close(found.attention, f"{block}eval/attention")
    reference.close(found.features, f"{block}eval/feature_matrix")
    reference.close(found.logits, f"{block}eval/logits_raw")
    reference.close(found.effect, f"{block}eval/logits_effect")
    ones = bilinear_attention_pooling(x, torch.ones_like(found.attention))
    reference.close(ones, f"{block}eval/cf_feature_ones")
    reference.close(found.attention.mean(1, keepdim=True), f"{block}eval/mean_attention_map")
    reference.close(bilinear_attention_pooling(x, found.attention, "max"), f"{block}bap_gmp")
    if f"{block}bap_of_fake_attention" in reference:
        fake = reference.tensor(f"{block}fake_attention")
        reference.close(bilinear_attention_pooling(x, fake), f"{block}bap_of_fake_attention")
    if f"{block}bap_of_small_attention" in reference:
        small = reference.tensor(f"{block}small_attention")
        reference.close(bilinear_attention_pooling(x, small), f"{block}bap_of_small_attention")
    if f"{block}images" in reference:
        images, attention = reference.tensor(f"{block}images"), found.attention.detach()
        count = len(images)
        mean = attention.mean(1, keepdim=True)
        reference.close(crop(images, mean, [0.1] * count, 0.05), f"{block}crop_theta0.1_pad0.05")
        reference.close(crop(images, attention[:, :1], [0.5] * count, 0.1), f"{block}crop_theta0.5_pad0.1")
        reference.close(drop(images, attention[:, 1:2], [0.35] * count), f"{block}drop_theta0.35")
    if f"{block}train/logits_raw" not in reference:
        return
    model.train()
    labels = torch.from_numpy(reference.stored[f"{block}label"]).long()
    model.centres.copy_(reference.tensor(f"{block}feature_center"))
    found = model(x, reference.tensor(f"{block}fake_attention"))
    reference.close(found.logits, f"{block}train/logits_raw")
    reference.close(found.effect, f"{block}train/logits_effect")
    reference.close(found.logits - found.effect, f"{block}train/logits_counterfactual")
    reference.close(found.features, f"{block}train/feature_matrix")
    reference.close(model.attentions.bn.running_mean, f"{block}train/bn_running_mean_after")
    reference.close(model.attentions.bn.running_var, f"{block}train/bn_running_var_after")
    reference.close(model.pick_probabilities(found.attention), f"{block}train/pick_prob")
    terms = model.losses(found, labels)
    reference.close(3 * terms["raw"], f"{block}train/loss_ce_raw")
    reference.close(terms["effect"], f"{block}train/loss_ce_effect")
    reference.close(terms["centre"], f"{block}train/loss_center")
    reference.close(model.centres, f"{block}train/feature_center_after")
    total = torch.stack(list(terms.values())).sum()
    reference.close(total, f"{block}train/loss_raw_branch_total")
    gradients = torch.autograd.grad(total, [x, *model.parameters()])
    loosely(reference, gradients[0], f"{block}train/grad_x")
    for (name, _), gradient in zip(model.named_parameters(), gradients[1:], strict=True):
        loosely(reference, gradient.norm(), f"{block}train/gradnorm/{CAL_NAMES[name]}")


def loosely(reference: Reference, found: Tensor, key: str) -> None:
    """Gradients of CAL in float32: 5e-4 of the largest, since the square root is steep near zero."""
    if reference.dtype == torch.float64:
        reference.close(found, key, gradient=True)
        return
    expected = torch.from_numpy(reference.stored[key])
    torch.testing.assert_close(
        found.detach().view_as(expected), expected, rtol=0, atol=5e-4 * float(expected.abs().max()) + 1e-6
    )
    reference.compared += 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cal_equals_the_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    reference = Reference(reference_folder, "cal", dtype)
    for bag in reference.bags:
        cal_of(reference, bag)
    assert reference.compared >= 45


def gain_of(reference: Reference, bag: int) -> None:
    network = Small().to(reference.dtype)
    names = {name: name for name in network.state_dict()}
    reference.load(network, names)
    model = GAIN(network.features, network.head())
    block = f"bag{bag}/"
    x = reference.tensor(f"{block}x").requires_grad_()
    labels = reference.tensor(f"{block}labels_multihot")
    found = model(x, labels)
    values = network.features(x)
    reference.close(found.logits, f"{block}train/logits")
    reference.close(values, f"{block}train/features")
    reference.close(found.maps, f"{block}train/attention_map_scaled")
    reference.close(found.masks, f"{block}train/soft_mask")
    reference.close(x - x * found.masks, f"{block}train/masked_image")
    reference.close(found.masked_logits, f"{block}train/logits_masked_image")
    pixels = reference.tensor(f"{block}pixel_mask")
    terms = model.losses(found, labels, pixels)
    reference.close(terms["classification"], f"{block}train/loss_cl")
    reference.close(terms["mining"], f"{block}train/loss_am")
    total = terms["classification"] + terms["mining"]
    reference.close(total, f"{block}train/loss_total")
    reference.close(terms["external"] / 10, f"{block}train/loss_pixel")
    extended = total + terms["external"]
    reference.close(extended, f"{block}train/loss_total_ext_w10")
    parameters = dict(network.named_parameters())
    for loss, kind in ((total, "train/"), (extended, "train/ext/")):
        gradients = torch.autograd.grad(loss, [x, *parameters.values()], retain_graph=True)
        reference.close(gradients[0], f"{block}{kind}grad_x", gradient=True)
        for name, gradient in zip(parameters, gradients[1:], strict=True):
            if kind == "train/":
                reference.close(gradient, f"{block}train/grad/{name}", gradient=True)
            else:
                reference.close(gradient.norm(), f"{block}train/ext/gradnorm/{name}", gradient=True)
    explained = model(x)
    reference.close(explained.logits, f"{block}eval/logits")
    reference.close(explained.masks, f"{block}eval/soft_mask")
    reference.close(explained.masked_logits, f"{block}eval/logits_masked_image")
    if f"{block}per_label/labels" not in reference:
        return
    each = GAIN(network.features, network.head(), per_class=True)
    found = each(x, labels)
    assert found.targets.argmax(1).tolist() == reference.stored[f"{block}per_label/labels"].tolist()
    terms = each.losses(found, labels)
    reference.close(terms["classification"], f"{block}per_label/loss_cl")
    # The published code loses the image's features after the first masked image: the map of a second label
    # is made of the masked image's features and the image's own weights. Ours uses the image's features;
    # this test repeats the mistake of the published code.
    masks, left = [found.masks[:1]], [found.masked_logits[:1]]
    for number, label in enumerate(reference.stored[f"{block}per_label/labels"].tolist()[1:], 1):
        weights = channel_weights(network.head()(values)[:, label], values)
        mixed = weighted_map(network.features(x - x * masks[-1]), weights)
        masks.append(torch.sigmoid(10 * (scaled_map(mixed, x.shape[2:]) - 0.5)))
        left.append(network.head()(network.features(x - x * masks[-1])))
        assert not torch.allclose(found.masks[number], masks[-1][0])
    reference.close(torch.cat(masks), f"{block}per_label/soft_masks")
    reference.close(torch.cat(left), f"{block}per_label/logits_masked_image")
    mixed_up = replace(found, masked_logits=torch.cat(left))
    reference.close(each.losses(mixed_up, labels)["mining"], f"{block}per_label/loss_am")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gain_equals_the_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    reference = Reference(reference_folder, "gain", dtype)
    for bag in reference.bags:
        gain_of(reference, bag)
    assert reference.compared >= 100


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_unscaled_map_of_the_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    """Channel weights and Grad-CAM's map, before anything is scaled."""
    reference = Reference(reference_folder, "gain", dtype)
    for bag in reference.bags:
        network = Small().to(dtype)
        reference.load(network, {name: name for name in network.state_dict()})
        x, labels = reference.tensor(f"bag{bag}/x"), reference.tensor(f"bag{bag}/labels_multihot")
        values = network.features(x)
        weights = channel_weights((network.head()(values) * labels).sum(1), values)
        reference.close(weights, f"bag{bag}/train/channel_weights", gradient=True)
        small = weighted_map(values, weights)
        reference.close(small, f"bag{bag}/train/attention_map_lowres")
        whole = F.interpolate(small, x.shape[2:], mode="bilinear", align_corners=True)
        reference.close(whole, f"bag{bag}/train/attention_map")
    assert reference.compared == 3 * len(reference.bags)
