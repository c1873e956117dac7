"""The suite for every aggregator, and hand-worked cases. test_reference_*.py compare with published code."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import wsi_mil.aggregators.methods as methods
from wsi_mil.aggregators import AGGREGATORS, Aggregator, build_aggregator, outputs_for
from wsi_mil.aggregators.attention import AttentionAggregator
from wsi_mil.aggregators.catalog import parameters_of, small_parameters
from wsi_mil.aggregators.methods.abmil import ABMIL
from wsi_mil.aggregators.methods.focus_mil import FocusMIL, gaussian_kl
from wsi_mil.aggregators.methods.mi_net import MiNet
from wsi_mil.aggregators.names import METHODS, matching_aggregators
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.tasks import TaskLoss
from wsi_mil.testing.aggregators import DIM, AggregatorSuite, detection_loss, make_bags

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in AGGREGATORS.own),
    ("focus_mil", {"kl_over": "selected"}),
    *(
        ("mi_net_embedding", {"hidden": (8, 8), "pooling": pooling, "variant": variant})
        for pooling in ("max", "mean", "lse")
        for variant in ("deep_supervision", "residual")
    ),
    ("abmil", {"dropout": 0.3}),
    ("clam_mb", {"subtyping": True}),
    ("clam_sb", {"instance_loss": "ce", "bag_loss": "svm", "dropout": 0.0}),
    ("dsmil", {"value": "learned"}),
    ("dtfd", {"distill": "max"}),
    ("dtfd", {"distill": "max_min", "per_group": 2, "detach": False}),
    ("loss_attention", {"l2": "mean", "dropout": 0.2}),
    *(("counterfactual(abmil)", {"kind": kind}) for kind in ("uniform", "reversed", "shuffled")),
]


def suite_of(name: str, params: dict[str, Any]) -> type[AggregatorSuite]:
    """Return the suite of one entry as a class that pytest collects."""
    values = {"name": name, "params": params}
    return type(f"Test_{name}_{'_'.join(str(v) for v in params.values())}", (AggregatorSuite,), values)


SUITES = [suite_of(name, params) for name, params in VARIANTS]
globals().update({f"TestSuite{number:02d}_{suite.name}": suite for number, suite in enumerate(SUITES)})


def test_every_file_and_every_wrapped_method_has_a_suite() -> None:
    """The names are read from the folder and from the classes here, not from the registry."""
    folder = Path(methods.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    classes = {name: import_module(f"{methods.__name__}.{name}").AGGREGATOR for name in names}
    inner = {name for name, found in classes.items() if issubclass(found, AttentionAggregator)}
    assert inner == {"abmil", "abmil_gated", "clam_sb", "clam_mb", "dsmil", "acmil", "loss_attention"}
    wrapped = {f"{wrapper}({name})" for wrapper in ("counterfactual", "guided") for name in inner}
    collected = {suite.name for name, suite in globals().items() if name.startswith("TestSuite")}
    assert collected == names | wrapped


@pytest.mark.parametrize("name", METHODS.own)
def test_small_settings_are_parameters_that_make_it_small(name: str) -> None:
    small = small_parameters(name)
    assert set(small) <= set(parameters_of(name))
    model = build_aggregator(name, DIM, outputs_for(name, 2), 0, small)
    assert sum(parameter.numel() for parameter in model.parameters()) < 50_000


ONE_FILE = '''
"""The instance of largest norm decides."""
from torch import nn
from wsi_mil.aggregators.base import Aggregator
from wsi_mil.bags.segments import segment_argmax
from wsi_mil.contracts.outputs import AggregatorOutput


class LargestNorm(Aggregator):
    """One linear layer on the instance of largest norm."""

    def __init__(self, in_features, n_outputs=1):
        super().__init__(in_features, n_outputs)
        self.linear = nn.Linear(in_features, n_outputs)

    def forward(self, bags):
        norms = bags.features.norm(dim=1)
        rows = segment_argmax(norms, bags.lengths)
        return AggregatorOutput(bags, self.linear(bags.features[rows]), norms, "logit")

    def loss(self, output, targets, task_loss):
        return {"bag": task_loss(output.bag_logits, targets)}


AGGREGATOR = LargestNorm
'''


def test_a_new_method_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is put into the folder is found, listed, matched and built, and passes checks of the
    suite."""
    (tmp_path / "largest_norm.py").write_text(ONE_FILE)
    (tmp_path / "no_method.py").write_text("class Nothing: pass\nAGGREGATOR = Nothing\n")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    assert AGGREGATORS["largest_norm"] == "wsi_mil.aggregators.methods.largest_norm:AGGREGATOR"
    assert matching_aggregators(["largest*"]) == ["largest_norm"]
    suite = suite_of("largest_norm", {})()
    suite.test_shapes_and_kind()
    suite.test_packed_equals_one_by_one()
    suite.test_loss_and_gradient_of_a_batch_are_the_mean_of_its_bags()
    with pytest.raises(ConfigError, match="is no aggregator"):
        build_aggregator("no_method", DIM, 1, 0)


class Cheater(Aggregator):
    """Deliberately wrong in one way each: mixes bags, pads, draws global random numbers, sums where a mean is
    promised."""

    def __init__(self, in_features: int, n_outputs: int = 1, fault: str = "mix") -> None:
        super().__init__(in_features, n_outputs)
        self.fault = fault
        self.linear = nn.Linear(in_features, n_outputs)

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        logits = self.linear(bags.features)
        if self.fault == "global" and self.training:
            logits = logits + torch.randn(logits.shape)
        parts = logits.split(bags.lengths)
        bag_logits = torch.stack([p.max(0).values for p in parts])
        if self.fault == "mix":
            bag_logits = logits.mean(0, keepdim=True).expand(len(bags), -1)
        elif self.fault == "random":
            bag_logits = bag_logits + torch.randn(1)
        elif self.fault == "pad":
            longest = max(bags.lengths)
            padded = [torch.cat([p, p.new_zeros(longest - len(p), p.shape[1])]) for p in parts]
            bag_logits = torch.stack([p.max(0).values for p in padded])
        elif self.fault == "first":
            bag_logits = torch.stack([p[0] for p in parts])
        return AggregatorOutput(bags, bag_logits, logits[:, 0], "logit")

    def loss(
        self, output: AggregatorOutput, targets: torch.Tensor, task_loss: TaskLoss
    ) -> dict[str, torch.Tensor]:
        return {
            "bag": output.bag_logits.square().sum()
            if self.fault == "sum"
            else output.bag_logits.square().mean()
        }


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("mix", "test_packed_equals_one_by_one"),
        ("mix", "test_no_bag_depends_on_another"),
        ("random", "test_deterministic_in_evaluation"),
        ("global", "test_same_seed_same_run"),
        ("pad", "test_packed_equals_one_by_one"),
        ("pad", "test_loss_and_gradient_of_a_batch_are_the_mean_of_its_bags"),
        ("sum", "test_loss_and_gradient_of_a_batch_are_the_mean_of_its_bags"),
        ("first", "test_permuting_instances_permutes_scores"),
    ],
)
def test_the_suite_fails_on_wrong_aggregators(fault: str, check: str) -> None:
    class Wrong(AggregatorSuite):
        def build(self, n_outputs: int | None = None) -> Aggregator:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = Cheater(DIM, n_outputs or 1, fault)
            nn.init.constant_(model.linear.bias, -5.0)
            return model

    with pytest.raises(AssertionError):
        getattr(Wrong(), check)()


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
    terms = model.loss(output, torch.tensor([0, 1]), detection_loss(model))
    p = expected.sigmoid()
    torch.testing.assert_close(terms["bag"], -((1 - p[0]).log() + p[1].log()) / 2)
    from torch.distributions import Normal, kl_divergence

    kl = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu)))
    torch.testing.assert_close(terms["kl"], 0.01 * kl.mean(), rtol=1e-5, atol=1e-9)
    model.kl_over = "selected"
    rows = [int(logits[:4].argmax()), 4 + int(logits[4:].argmax())]
    torch.testing.assert_close(
        model.loss(output, torch.tensor([0, 1]), detection_loss(model))["kl"],
        0.01 * kl[rows].mean(),
        rtol=1e-5,
        atol=1e-9,
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
        (128, 512),
        (128,),
        (200, 128),
        (200,),
        (35, 200),
        (35,),
        (35, 200),
        (35,),
        (1, 35),
        (1,),
    ]
    assert (model.kl_weight, model.kl_over) == (0.01, "all")


def test_kl_of_the_prior_itself_is_zero() -> None:
    assert float(gaussian_kl(torch.zeros(3, 4).double(), torch.zeros(3, 4).double())) == pytest.approx(
        0, abs=1e-7
    )


def test_mi_net_gives_gradient_to_one_instance_a_bag() -> None:
    model = MiNet(DIM, hidden=(6,))
    packed = PackedBags.pack(make_bags((4, 6)))
    packed.features.requires_grad_()
    output = model(packed)
    model.loss(output, packed.labels, detection_loss(model))["bag"].backward()
    assert packed.features.grad is not None
    rows = packed.features.grad.abs().sum(1).nonzero()[:, 0].tolist()
    scores = output.instance_scores
    assert rows == [int(scores[:4].argmax()), 4 + int(scores[4:].argmax())]


def test_outside_the_clamp_abmil_gives_no_gradient() -> None:
    model = ABMIL(DIM)
    with torch.no_grad():
        model.classifier.bias.fill_(40.0)
    packed = PackedBags.pack(make_bags((3,)))
    loss = model.loss(model(packed), torch.tensor([0]), detection_loss(model))["bag"]
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
