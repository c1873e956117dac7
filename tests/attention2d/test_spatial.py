"""Attention on feature maps against loops, formulas and finite differences."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_mil.attention2d import CAL, GAIN, LossAttentionPool2d, bilinear_attention_pooling, grad_cam
from wsi_mil.attention2d.cal import crop, drop
from wsi_mil.attention2d.cam import weighted_map
from wsi_mil.attention2d.gain import norms_at_rest, scaled_map
from wsi_mil.errors import ConfigError, DataError


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def network(double: bool = True, norm: bool = False) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(2)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Softplus(),
    ]
    if norm:
        layers.insert(1, nn.BatchNorm2d(6))
    features = nn.Sequential(*layers)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10), nn.Tanh(), nn.Linear(10, 4)
    )
    for module in [*features, *head]:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.mul_(3)  # far from linear, or second derivatives would be next to nothing
    return (features.double(), head.double()) if double else (features, head)


# ---- bilinear attention pooling, CAL


@pytest.mark.parametrize("size", [(5, 4), (3, 4, 2)])
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_is_what_a_loop_over_maps_gives(
    size: tuple[int, ...], pool: str, generator: torch.Generator
) -> None:
    values = torch.randn(2, 7, *size, dtype=torch.float64, generator=generator)
    attention = torch.rand(2, 3, *size, dtype=torch.float64, generator=generator)
    for image in range(2):
        pooled = []
        for number in range(3):
            product = (attention[image, number] * values[image]).flatten(1)
            pooled.append(product.mean(1) if pool == "mean" else product.amax(1))
        flat = torch.cat(pooled).numpy()
        signed = np.sign(flat) * np.sqrt(np.abs(flat) + 1e-6)
        found = bilinear_attention_pooling(values, attention, pool)[image]  # type: ignore[arg-type]
        np.testing.assert_allclose(found, signed / np.linalg.norm(signed), rtol=1e-12)


def test_the_gradient_through_the_maps_by_finite_differences(generator: torch.Generator) -> None:
    values = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    attention = (torch.rand(2, 2, 2, 2, dtype=torch.float64, generator=generator) + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(bilinear_attention_pooling, (values, attention), atol=1e-5)


def cal(generator: torch.Generator, counterfactual: str = "random", dimensions: int = 2) -> CAL:
    torch.manual_seed(1)
    return CAL(
        nn.Identity(), 5, 3, maps=4, counterfactual=counterfactual, dimensions=dimensions, generator=generator
    ).double()  # type: ignore[arg-type]


def test_counterfactual_maps(generator: torch.Generator) -> None:
    attention = torch.rand(6, 4, 3, 3, dtype=torch.float64, generator=generator)
    drawn = cal(generator).fake_attention(attention)
    assert drawn.min() >= 0
    assert 1.5 < drawn.max() <= 2
    assert abs(float(drawn.mean()) - 1) < 0.1
    uniform = cal(generator, "uniform").fake_attention(attention)
    for image in range(6):
        torch.testing.assert_close(
            uniform[image], torch.full_like(uniform[image], float(attention[image].mean()))
        )
    reverse = cal(generator, "reversed").fake_attention(attention)
    for image in range(6):
        torch.testing.assert_close(reverse[image], attention[image].max() - attention[image])
    shuffled = cal(generator, "shuffled").fake_attention(attention)
    rows = [next(i for i in range(6) if torch.equal(shuffled[j], attention[i])) for j in range(6)]
    assert sorted(rows) == list(range(6))
    for kind in ("random", "uniform", "reversed", "shuffled"):
        assert torch.equal(cal(generator, kind).eval().fake_attention(attention), torch.ones_like(attention))
    with pytest.raises(ConfigError, match="expected random, uniform, reversed or shuffled"):
        cal(generator, "upside_down")


def test_cal_in_three_dimensions(generator: torch.Generator) -> None:
    """Maps of a ViT's tokens in a cube. In evaluation the effect is the logits less those of all ones."""
    model = cal(generator, dimensions=3).eval()
    cube = torch.randn(2, 5, 4, 4, 4, dtype=torch.float64, generator=generator)
    found = model(cube)
    assert found.maps.shape == (2, 3, 4, 4, 4)
    assert found.maps.min() >= 0
    ones = bilinear_attention_pooling(cube, torch.ones(2, 4, 4, 4, 4, dtype=torch.float64))
    torch.testing.assert_close(found.effect, 100 * (found.features - ones) @ model.fc.weight.T)


def test_centres_move_towards_every_image_of_a_class(generator: torch.Generator) -> None:
    """Also where a class is twice in the batch; not in evaluation."""
    model = cal(generator)
    features = F.normalize(torch.randn(3, 20, dtype=torch.float64, generator=generator), dim=1)
    labels = torch.tensor([1, 1, 0])
    loss = model.centre_loss(features, labels)
    torch.testing.assert_close(
        loss, torch.tensor(1.0, dtype=torch.float64)
    )  # all centres are 0, all features of length 1
    torch.testing.assert_close(model.centres[1], 0.05 * (features[0] + features[1]))
    before = model.centres.clone()
    model.eval().centre_loss(features, labels)
    assert torch.equal(model.centres, before)


def test_the_full_recipe_of_losses(generator: torch.Generator) -> None:
    model, labels = cal(generator), torch.tensor([0, 2, 1])
    images = torch.randn(3, 5, 6, 6, dtype=torch.float64, generator=generator)
    output = model(images)
    others = [model(view) for view in model.augment(images, output.attention)]
    terms = model.losses(output, labels, others)
    effects = torch.cat([output.effect, others[0].effect, others[1].effect])
    torch.testing.assert_close(terms["effect"], F.cross_entropy(effects, labels.repeat(3)))
    logits = torch.cat([others[0].logits, others[1].logits])
    torch.testing.assert_close(terms["augmented"], 2 / 3 * F.cross_entropy(logits, labels.repeat(2)))
    torch.testing.assert_close(terms["raw"], F.cross_entropy(output.logits, labels) / 3)


def test_crop_and_drop_follow_the_map() -> None:
    images = torch.arange(64, dtype=torch.float64).view(1, 1, 8, 8) + 1
    attention = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    attention[0, 0, 2:5, 3:7] = 1
    found = crop(images, attention, [0.5], 0.0)
    torch.testing.assert_close(
        found[0, 0, 0, 0], images[0, 0, 2, 3]
    )  # the box's last row and column are lost, as published
    torch.testing.assert_close(found[0, 0, -1, -1], images[0, 0, 3, 5])
    left = drop(images, attention, [0.5])
    assert not left[0, 0, 2:5, 3:7].any()
    assert (left[0, 0] > 0).sum() == 64 - 12
    whole = crop(images, torch.zeros(1, 1, 8, 8, dtype=torch.float64), [0.5], 0.1)
    assert whole.shape == images.shape


def test_prediction_averages_crops_and_mirrors(generator: torch.Generator) -> None:
    model = cal(generator).eval()
    images = torch.randn(2, 5, 6, 6, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(model.predict(images, crops=(), flip=False), model(images).logits.detach())
    both = model.predict(images, crops=())
    torch.testing.assert_close(both, (model(images).logits + model(images.flip(-1)).logits).detach() / 2)
    assert not torch.allclose(model.predict(images), both)


# ---- GAIN, Grad-CAM


def test_gradients_of_gain_by_finite_differences(generator: torch.Generator) -> None:
    """Second order: the map's weights depend on the image, too. First order: the weights are constants."""
    features, head = network()
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.tensor([[1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        model = GAIN(features, head, second_order=True)
        return torch.stack(list(model.losses(model(x, labels), labels).values())).sum()

    assert torch.autograd.gradcheck(loss, (images,), eps=1e-6, atol=1e-6)

    weights = torch.randn(1, 8, dtype=torch.float64, generator=generator)

    def masked(x: Tensor) -> Tensor:
        mask = torch.sigmoid(10 * (scaled_map(weighted_map(features(x), weights), x.shape[2:]) - 0.5))
        return head(features(x - x * mask)).softmax(1)[:, 0]

    assert torch.autograd.gradcheck(masked, (images,), eps=1e-6, atol=1e-6)
    # and without second_order the numeric derivative is another one
    plain = GAIN(features, head)
    (first,) = torch.autograd.grad(
        torch.stack(list(plain.losses(plain(images, labels), labels).values())).sum(), images
    )
    (second,) = torch.autograd.grad(loss(images), images)
    assert float((first - second).abs().max()) > 0.01 * float(second.abs().max())


def test_several_classes_each_with_a_map_of_its_own(generator: torch.Generator) -> None:
    """Of every class the map that it has alone; an image without any class adds nothing."""
    features, head = network()
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=generator)
    labels = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]])
    found = GAIN(features, head, per_class=True)(images, labels)
    assert found.rows.tolist() == [0, 0, 0, 2, 2]
    assert found.targets.argmax(1).tolist() == [0, 2, 3, 1, 3]
    for pair, (row, target) in enumerate(zip(found.rows.tolist(), found.targets, strict=True)):
        alone = GAIN(features, head)(images[row : row + 1], target[None])
        torch.testing.assert_close(found.maps[pair], alone.maps[0])
        torch.testing.assert_close(found.masked_logits[pair], alone.masked_logits[0])
    model = GAIN(features, head, per_class=True)
    nothing = model(images, torch.zeros(3, 4, dtype=torch.long))
    assert float(model.losses(nothing, torch.zeros(3, 4))["mining"].detach()) == 0


def test_external_masks_count_for_the_images_that_have_one(generator: torch.Generator) -> None:
    features, head = network()
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=generator)
    labels = F.one_hot(torch.tensor([1, 0, 3]), 4)
    model = GAIN(features, head, form="single_label")
    found = model(images, labels)
    masks = (torch.rand(3, 1, 8, 8, generator=generator) > 0.5).double()
    terms = model.losses(found, labels.argmax(1), masks, torch.tensor([False, True, False]))
    torch.testing.assert_close(terms["external"], 10 * (found.maps[1] - masks[1]).square().mean())
    torch.testing.assert_close(terms["classification"], F.cross_entropy(found.logits, labels.argmax(1)))
    assert "external" not in model.losses(found, labels.argmax(1), masks, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(DataError, match=r"external masks of \(4, 4\) px, maps of \(8, 8\)"):
        model.losses(found, labels.argmax(1), masks[:, :, :4, :4])


def test_only_the_mask_parts_the_two_passes(generator: torch.Generator) -> None:
    features, head = network(norm=True)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator)
    labels = F.one_hot(torch.tensor([1, 0, 3, 2]), 4)
    features.train()
    features(images)  # the batch norm has seen data
    before = copy.deepcopy(features.state_dict())
    model = GAIN(features, head, sigma=2.0, omega=100.0).train()  # covers nothing
    output = model(images, labels)
    torch.testing.assert_close(output.masked_logits, output.logits)
    assert all(torch.equal(value, before[key]) for key, value in features.state_dict().items())
    assert features[1].training  # type: ignore[index]
    with norms_at_rest(model):
        assert not features[1].training  # type: ignore[index]


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_mixed_precision_keeps_maps_and_losses(precision: torch.dtype, generator: torch.Generator) -> None:
    """Values and gradients are those of float32; scores far below what float16 can hold keep their map."""
    features, head = network(double=False)
    images = torch.randn(3, 3, 32, 32, generator=generator)
    labels = F.one_hot(torch.tensor([1, 0, 3]), 4)
    masks = (torch.rand(3, 1, 32, 32, generator=generator) > 0.5).float()
    model = GAIN(features, head)

    def step() -> tuple[Tensor, dict[str, Tensor], Tensor]:
        model.zero_grad()
        output = model(images, labels)
        terms = model.losses(output, labels, masks)
        torch.stack(list(terms.values())).sum().backward()
        gradient = next(features.parameters()).grad
        assert gradient is not None
        return output.maps.detach(), {key: value.detach() for key, value in terms.items()}, gradient.clone()

    maps, terms, gradient = step()
    with torch.autocast("cpu", dtype=precision):
        assert features(images).dtype is precision
        found, losses, moved = step()
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, maps, rtol=0, atol=0.05)
    for key, value in terms.items():
        assert losses[key].dtype is torch.float32
        torch.testing.assert_close(losses[key], value, rtol=0.05, atol=0)
    assert float(F.cosine_similarity(moved.flatten(), gradient.flatten(), dim=0)) > 0.95

    for module in head:
        if isinstance(module, nn.Linear):
            module.weight.data.mul_(1e-3)
    maps = model(images, labels).maps.detach()
    with torch.autocast("cpu", dtype=precision):
        torch.testing.assert_close(model(images, labels).maps.detach(), maps, rtol=0, atol=0.05)


def test_a_map_that_is_nowhere_covers_nothing() -> None:
    found = scaled_map(torch.zeros(1, 1, 3, 3), torch.Size((6, 6)))
    assert not found.any()
    assert not found.isnan().any()
    half = weighted_map(torch.zeros(1, 2, 3, 3, dtype=torch.float16), torch.ones(1, 2, dtype=torch.float16))
    assert not scaled_map(half, torch.Size((6, 6))).isnan().any()


def test_grad_cam_by_hand_and_without_a_trace(generator: torch.Generator) -> None:
    features, head = network()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=generator)
    classes = torch.tensor([2, 0])
    found = grad_cam(features, head, images, classes)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in [*features.parameters(), *head.parameters()])
    values = features(images).detach()
    step = 1e-6
    for image in range(2):
        weights = torch.zeros(8, dtype=torch.float64)
        for channel in range(8):
            moved = values[image : image + 1].clone()
            moved[:, channel] += (
                step  # all positions together: their mean gradient is this difference over their number
            )
            change = head(moved)[0, classes[image]] - head(values[image : image + 1])[0, classes[image]]
            weights[channel] = change.detach() / step / values[0, 0].numel()
        small = torch.relu((weights[:, None, None] * values[image]).sum(0))[None, None]
        expected = F.interpolate(small, (8, 8), mode="bilinear", align_corners=True)[0, 0]
        torch.testing.assert_close(found[image], expected, rtol=1e-4, atol=1e-7)


# ---- loss-attention


def test_loss_attention_follows_the_paper(generator: torch.Generator) -> None:
    head = LossAttentionPool2d(6, 3).double()
    maps = torch.randn(2, 6, 3, 2, dtype=torch.float64, generator=generator)
    found = head(maps)
    weight, bias = head.fc.weight.detach().numpy(), head.fc.bias.detach().numpy()
    labels = [2, 0]
    expected = []
    for image in range(2):
        z = maps[image].flatten(1).numpy().T @ weight.T + bias
        alpha = np.exp(z).sum(1) / np.exp(z).sum()
        np.testing.assert_allclose(found.attention[image].detach(), alpha, rtol=1e-12)
        np.testing.assert_allclose(
            found.logits[image].detach(), alpha @ z, rtol=1e-10
        )  # since the weights sum to 1
        likelihood = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        expected.append(alpha * -np.log(likelihood[:, labels[image]]))
        np.testing.assert_allclose(
            found.maps[image].detach().flatten(1), (alpha[:, None] * likelihood).T, rtol=1e-10
        )
    terms = head.losses(found, torch.tensor(labels))
    assert float(terms["positions"].detach()) == pytest.approx(np.mean(expected))
    assert set(terms) == {"image", "positions"}


def test_attention_is_held_to_its_average_more_and_more(generator: torch.Generator) -> None:
    """Two epochs of one image, by the formula: average with factor 0.6, weight 400 exp(-5 (1 - t)^2)."""
    head = LossAttentionPool2d(6, 3, images=2, positions=4).double()
    one, other = (torch.randn(1, 6, 2, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    number, label = torch.tensor([1]), torch.tensor([0])
    first = head(one)
    assert float(head.losses(first, label, number)["consistency"].detach()) == 0
    head.end_epoch()
    second = head(other)
    weight = 400 * math.exp(-5 * (1 - 1 / 80) ** 2)
    expected = weight * (second.attention - first.attention).square().mean()  # 0.4 alpha / (1 - 0.6) = alpha
    torch.testing.assert_close(head.losses(second, label, number)["consistency"], expected)
    head.end_epoch()
    target = (0.6 * 0.4 * first.attention + 0.4 * second.attention) / (1 - 0.6**2)
    weight = 400 * math.exp(-5 * (1 - 2 / 80) ** 2)
    found = head.losses(first, label, number)["consistency"]
    torch.testing.assert_close(found, weight * (first.attention - target).square().mean())
    head.epoch = 90
    assert head.consistency_weight == 400
    with pytest.raises(DataError, match="2 images of 4 positions needs the images' numbers"):
        head.losses(first, label)


def test_maps_of_loss_attention_at_the_size_of_the_images(generator: torch.Generator) -> None:
    head = LossAttentionPool2d(5, 3).double()
    maps = torch.rand(2, 5, 4, 6, dtype=torch.float64, generator=generator)
    small, large = head(maps), head(maps, (13, 31))
    assert large.maps.shape == (2, 3, 13, 31)
    torch.testing.assert_close(
        large.maps[:, :, ::4, ::6], small.maps
    )  # corners aligned: every fourth and sixth is a position
    torch.testing.assert_close(small.maps.sum((1, 2, 3)), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(large.logits, small.logits)
