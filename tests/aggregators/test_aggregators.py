"""The suite for every registry entry, values against published reference code and hand-worked cases."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wsi_mil.aggregators import AGGREGATORS, Aggregator, build_aggregator
from wsi_mil.aggregators.abmil_gated import GatedABMIL
from wsi_mil.aggregators.focus_mil import FocusMIL, gaussian_kl
from wsi_mil.aggregators.mi_net import MiNet
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.testing.aggregators import DIM, AggregatorSuite, make_bags


class TestFocusMIL(AggregatorSuite):
    def build(self, n_outputs: int = 1) -> Aggregator:
        return build_aggregator("focus_mil", DIM, n_outputs, seed=0, params={})


class TestFocusMILSelected(AggregatorSuite):
    def build(self, n_outputs: int = 1) -> Aggregator:
        return build_aggregator("focus_mil", DIM, n_outputs, seed=0, params={"kl_over": "selected"})


class TestMiNet(AggregatorSuite):
    def build(self, n_outputs: int = 1) -> Aggregator:
        return build_aggregator("mi_net", DIM, n_outputs, seed=0, params={"hidden": (16, 8)})


class TestGatedABMIL(AggregatorSuite):
    def build(self, n_outputs: int = 1) -> Aggregator:
        return build_aggregator("abmil_gated", DIM, n_outputs, seed=0, params={})


SUITES = [TestFocusMIL, TestFocusMILSelected, TestMiNet, TestGatedABMIL]


def test_every_registry_entry_has_a_suite() -> None:
    covered = {type(suite().build()) for suite in SUITES}
    assert {AGGREGATORS.load(name) for name in AGGREGATORS} == covered


class Cheater(Aggregator):
    """Deliberately wrong in many ways: averages over the whole batch, draws global random numbers in evaluation."""

    def __init__(self, in_features: int, n_outputs: int = 1, fault: str = "mix") -> None:
        super().__init__(in_features, n_outputs)
        self.fault = fault
        self.linear = nn.Linear(in_features, n_outputs)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        logits = self.linear(bags.features)
        scores = logits[:, 0]
        if self.fault == "mix":
            bag_logits = logits.mean(0, keepdim=True).expand(len(bags), -1)
        elif self.fault == "random":
            bag_logits = torch.stack([p.max(0).values for p in logits.split(bags.lengths)]) + torch.randn(1)
        elif self.fault == "pad":
            longest = max(bags.lengths)
            padded = [torch.cat([p, p.new_zeros(longest - len(p), p.shape[1])]) for p in logits.split(bags.lengths)]
            bag_logits = torch.stack([p.max(0).values for p in padded])
        else:
            bag_logits = torch.stack([p[0] for p in logits.split(bags.lengths)])
        return AggregatorOutput(bag_logits, scores, "logit")

    def loss(self, output: AggregatorOutput, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"bag": output.bag_logits.square().mean()}


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("mix", "test_packed_equals_one_by_one"),
        ("mix", "test_no_bag_depends_on_another"),
        ("random", "test_deterministic_in_evaluation"),
        ("pad", "test_packed_equals_one_by_one"),
        ("first", "test_permuting_instances_permutes_scores"),
    ],
)
def test_the_suite_fails_on_wrong_aggregators(fault: str, check: str) -> None:
    class Wrong(AggregatorSuite):
        def build(self, n_outputs: int = 1) -> Aggregator:
            torch.manual_seed(0)
            model = Cheater(DIM, n_outputs, fault)
            nn.init.constant_(model.linear.bias, -5.0)
            return model

    with pytest.raises(AssertionError):
        getattr(Wrong(), check)()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gated_abmil_equals_its_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    """Forward, losses and gradients of the authors' code, for whatever seeds and bag sizes the file holds."""
    with np.load(reference_folder / "aggregators" / "abmil_gated.npz", allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    names = {
        "embed": "feature_extractor_part2.fc",
        "attention_V": "attention_V.0",
        "attention_U": "attention_U.0",
        "attention_w": "attention_w",
        "classifier": "classifier.0",
    }
    hidden, dim = stored["param/feature_extractor_part2.fc.weight"].shape
    attention = stored["param/attention_V.0.weight"].shape[0]
    model = GatedABMIL(dim, 1, hidden, attention).to(dtype)
    model.load_state_dict(
        {f"{ours}.{kind}": torch.from_numpy(stored[f"param/{theirs}.{kind}"]).to(dtype)
         for ours, theirs in names.items() for kind in ("weight", "bias")}
    )  # fmt: skip
    double = dtype == torch.float64
    suffix = "_f64" if double else ""

    def close(found: torch.Tensor, key: str, gradient: bool = False) -> None:
        expected = stored[key + suffix].astype(np.float64).reshape(found.shape)
        if double:
            np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-10)
        else:
            scale = np.abs(expected).max()
            atol = 1e-4 * scale + 1e-6 if gradient else 1e-5 * max(1, scale)
            np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=atol)

    count = json.loads(str(stored["meta"]))
    bags = len({name.split("/")[0] for name in stored if name.startswith("bag")})
    assert bags > 0, count
    for number in range(bags):
        x = torch.from_numpy(stored[f"bag{number}/x"]).to(dtype).requires_grad_()
        label = int(stored[f"bag{number}/label"])
        model.zero_grad()
        output = model(PackedBags.pack([Bag("b", x, label)]))
        close(output.bag_logits[0], f"bag{number}/logit")
        close(output.instance_scores, f"bag{number}/attention")
        close(output.extras["attention_raw"], f"bag{number}/attention_raw")
        close(output.extras["embedding"][0], f"bag{number}/embedding")
        for k in (0, 1):
            close(model.loss(output, torch.tensor([k]))["bag"], f"bag{number}/y{k}/loss")
        model.loss(output, torch.tensor([label]))["bag"].backward()
        assert x.grad is not None
        close(x.grad, f"bag{number}/grad_x", gradient=True)
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                key = f"bag{number}/gradnorm/{theirs}.{kind}"
                if key + suffix in stored and not (ours == "attention_w" and kind == "bias"):
                    gradient = model.get_submodule(ours).get_parameter(kind).grad
                    assert gradient is not None
                    close(gradient.norm(), key, gradient=True)


def test_focus_mil_by_hand() -> None:
    """In evaluation: z = mu, max over raw logits, BCE of the largest; KL against torch's own distribution."""
    model = FocusMIL(DIM, latent=5, kl_weight=0.01).double().eval()
    bags = make_bags((4, 7))
    packed = PackedBags.pack([Bag(b.slide_id, b.features.double(), b.label) for b in bags])
    output = model(packed)
    code = model.encoder(packed.features)
    mu, logvar = model.mu(code), model.logvar(code)
    logits = (mu @ model.classifier.weight.T + model.classifier.bias)[:, 0]
    expected = torch.stack([logits[:4].max(), logits[4:].max()])
    torch.testing.assert_close(output.bag_logits[:, 0], expected)
    torch.testing.assert_close(output.instance_scores, logits)
    terms = model.loss(output, torch.tensor([0, 1]))
    p = expected.sigmoid()
    torch.testing.assert_close(terms["bag"], -((1 - p[0]).log() + p[1].log()) / 2)
    from torch.distributions import Normal, kl_divergence

    kl = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu)))
    torch.testing.assert_close(terms["kl"], 0.01 * kl.mean(), rtol=1e-5, atol=1e-9)
    model.kl_over = "selected"
    rows = [int(logits[:4].argmax()), 4 + int(logits[4:].argmax())]
    torch.testing.assert_close(
        model.loss(output, torch.tensor([0, 1]))["kl"], 0.01 * kl[rows].mean(), rtol=1e-5, atol=1e-9
    )


def test_focus_mil_samples_in_training_from_the_generator_it_was_handed() -> None:
    model = FocusMIL(DIM, latent=400).train()
    packed = PackedBags.pack(make_bags((300,)))
    model.generator = torch.Generator().manual_seed(0)
    one = model(packed).instance_scores
    model.generator = torch.Generator().manual_seed(0)
    torch.manual_seed(99)
    assert torch.equal(one, model(packed).instance_scores)
    noise = (one - model.eval()(packed).instance_scores).detach()
    with torch.no_grad():
        sigma = (0.5 * model.logvar(model.encoder(packed.features))).exp()
        expected = (sigma.square() @ model.classifier.weight[0].square()).mean().sqrt()
    assert float(noise.mean()) == pytest.approx(0, abs=float(expected) / 4)
    assert float(noise.std()) == pytest.approx(float(expected), rel=0.2)


def test_published_sizes_are_the_defaults() -> None:
    model = FocusMIL(512)
    assert [tuple(p.shape) for p in model.parameters()] == [
        (128, 512), (128,), (200, 128), (200,), (35, 200), (35,), (35, 200), (35,), (1, 35), (1,),
    ]  # fmt: skip
    assert (model.kl_weight, model.kl_over) == (0.01, "all")


def test_kl_of_the_prior_itself_is_zero() -> None:
    assert float(gaussian_kl(torch.zeros(3, 4).double(), torch.zeros(3, 4).double())) == pytest.approx(0, abs=1e-7)


def test_mi_net_gives_gradient_to_one_instance_a_bag() -> None:
    model = MiNet(DIM, hidden=(6,))
    packed = PackedBags.pack(make_bags((4, 6)))
    packed.features.requires_grad_()
    output = model(packed)
    model.loss(output, packed.labels)["bag"].backward()
    assert packed.features.grad is not None
    rows = packed.features.grad.abs().sum(1).nonzero()[:, 0].tolist()
    scores = output.instance_scores
    assert rows == [int(scores[:4].argmax()), 4 + int(scores[4:].argmax())]


def test_outside_the_clamp_abmil_gives_no_gradient() -> None:
    model = GatedABMIL(DIM)
    with torch.no_grad():
        model.classifier.bias.fill_(40.0)
    packed = PackedBags.pack(make_bags((3,)))
    loss = model.loss(model(packed), torch.tensor([0]))["bag"]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-np.log(1e-5), rel=1e-3)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_wrong_names_and_parameters_are_told() -> None:
    with pytest.raises(ConfigError, match="'focus_mil'"):
        build_aggregator("focusmil", 4, 1, 0, {})
    with pytest.raises(ConfigError, match=r"no parameter 'latnet'. Nearest: 'latent'"):
        build_aggregator("focus_mil", 4, 1, 0, {"latnet": 3})
    with pytest.raises(ConfigError, match="kl_over"):
        build_aggregator("focus_mil", 4, 1, 0, {"kl_over": "some"})


def test_bags_that_cannot_be() -> None:
    features, labels = torch.zeros(5, 2), torch.tensor([0, 1])
    with pytest.raises(DataError, match="at least one instance"):
        Bag("empty", torch.zeros(0, 2), 0)
    for offsets in ([1, 3, 5], [0, 3, 3], [0, 3, 4], [0, 5]):
        with pytest.raises(DataError):
            PackedBags(features, torch.tensor(offsets), labels, ("a", "b"))
