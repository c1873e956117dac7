"""The suite of every aggregator. Subclass `AggregatorSuite`, set `name`, and pytest runs it."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.aggregators.catalog import outputs_for, small_parameters
from wsi_mil.aggregators.max_pooling import MaxPooling
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.tasks import Detection, TaskLoss

DIM = 12
TOLERANCE = 1e-5


def make_bags(lengths: tuple[int, ...] = (5, 1, 9), seed: int = 0, classes: int = 2) -> list[Bag]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Bag(f"slide_{i}", torch.randn(length, DIM, generator=generator), i % classes)
        for i, length in enumerate(lengths)
    ]


def gradients(model: Aggregator) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def detection_loss(model: Aggregator) -> TaskLoss:
    """Return the loss of detection with the classes of the outputs of `model`."""
    return model.task_loss(Detection.of(max(model.n_outputs, 2)))


def total_loss(model: Aggregator, bags: PackedBags) -> Tensor:
    return torch.stack(list(model.loss(model(bags), bags.labels, detection_loss(model)).values())).sum()


class AggregatorSuite:
    """Set `name`, a registry name. `params`: what differs from the small settings that the class declares
    (`small`)."""

    name: ClassVar[str]
    params: ClassVar[dict[str, Any]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters of the aggregator under test."""
        return {**small_parameters(self.name), **self.params}

    def build(self, n_outputs: int | None = None) -> Aggregator:
        """Return a new aggregator over DIM features, with the same weights each time; default: for two
        classes."""
        outputs = n_outputs or outputs_for(self.name, classes=2)
        return build_aggregator(self.name, DIM, outputs, seed=0, params=self.settings)

    @property
    def outputs(self) -> tuple[int, int]:
        """Logits for two and for three classes."""
        return outputs_for(self.name, classes=2), 3

    def model(self, n_outputs: int | None = None) -> Aggregator:
        return self.build(n_outputs).eval()

    def test_shapes_and_kind(self) -> None:
        for n_outputs in self.outputs:
            model = self.model(n_outputs)
            output = model(PackedBags.pack(make_bags()))
            assert output.bag_logits.shape == (3, n_outputs)
            assert output.instance_scores.shape == (15,)
            assert output.score_kind in ("attention", "logit", "probability")
            assert output.second_kind == model.second_kind, "the class declares it, see `Aggregator`"
            assert output.second_kind != "value"

    def test_deterministic_in_evaluation(self) -> None:
        model, bags = self.model(), PackedBags.pack(make_bags())
        torch.manual_seed(1)
        first = model(bags)
        torch.manual_seed(2)
        second = model(bags)
        assert torch.equal(first.bag_logits, second.bag_logits)
        assert torch.equal(first.instance_scores, second.instance_scores)

    def test_packed_equals_one_by_one(self) -> None:
        model, bags = self.model(), make_bags()
        together = model(PackedBags.pack(bags))
        alone = [model(PackedBags.pack([bag])) for bag in bags]
        torch.testing.assert_close(
            together.bag_logits, torch.cat([o.bag_logits for o in alone]), rtol=0, atol=TOLERANCE
        )
        scores = torch.cat([o.instance_scores for o in alone])
        torch.testing.assert_close(together.instance_scores, scores, rtol=0, atol=TOLERANCE)
        if together.second_scores is not None:
            scores = torch.cat([o.second_scores for o in alone])
            torch.testing.assert_close(together.second_scores, scores, rtol=0, atol=TOLERANCE)

    def test_loss_and_gradient_of_a_batch_are_the_mean_of_its_bags(self) -> None:
        model = self.model()
        # a term that is a mean over all instances of a batch is the mean over its bags only if they have one
        # length
        over_instances = isinstance(model, MaxPooling) and model.reaches_every_instance
        bags = make_bags((6, 6, 6) if over_instances else (6, 1, 11))
        whole = total_loss(model, PackedBags.pack(bags))
        whole.backward()
        together = gradients(model)
        model.zero_grad()
        mean = torch.stack([total_loss(model, PackedBags.pack([bag])) for bag in bags]).mean()
        mean.backward()
        assert together
        scale = max(float(mean.detach().abs()), 1.0)  # the published weight of CausalMIL's loss is a thousand
        torch.testing.assert_close(whole, mean, rtol=0, atol=TOLERANCE * scale)
        for a, b in zip(together, gradients(model), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=TOLERANCE * scale)

    def test_no_bag_depends_on_another(self) -> None:
        model, bags = self.model(), make_bags()
        other = [bags[0], Bag("x", 50 * torch.ones(3, DIM), 1), *bags[2:]]
        one, two = model(PackedBags.pack(bags)), model(PackedBags.pack(other))
        torch.testing.assert_close(one.bag_logits[0], two.bag_logits[0], rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(one.instance_scores[:5], two.instance_scores[:5], rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(one.bag_logits[2], two.bag_logits[2], rtol=0, atol=TOLERANCE)

    def test_permuting_instances_permutes_scores(self) -> None:
        model, bag = self.model(), make_bags((9,))[0]
        order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
        plain = model(PackedBags.pack([bag]))
        mixed = model(PackedBags.pack([Bag("m", bag.features[order], bag.label)]))
        same = torch.allclose(plain.bag_logits, mixed.bag_logits, atol=TOLERANCE) and torch.allclose(
            plain.instance_scores[order], mixed.instance_scores, atol=TOLERANCE
        )
        assert same == model.permutes_with_instances

    def test_one_instance_and_very_many(self) -> None:
        model = self.model()
        one = model(PackedBags.pack(make_bags((1,))))
        assert torch.isfinite(one.bag_logits).all()
        many = model(PackedBags.pack([Bag("m", torch.randn(100_000, DIM), 1)]))
        assert torch.isfinite(many.bag_logits).all()
        assert many.instance_scores.shape == (100_000,)

    def test_gradients_are_finite_and_reach_every_parameter(self) -> None:
        model = self.build().train()
        model.generator = torch.Generator().manual_seed(0)
        bags = PackedBags.pack([Bag("big", 30 * torch.randn(50, DIM), 0), *make_bags()])
        total_loss(model, bags).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_half_precision(self) -> None:
        model, bags = self.model(), PackedBags.pack(make_bags())
        expected = model(bags)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(bags)
        assert torch.isfinite(found.instance_scores).all()
        torch.testing.assert_close(found.bag_logits.float(), expected.bag_logits, rtol=0.05, atol=0.05)
        with torch.autocast("cpu", torch.bfloat16):
            loss = total_loss(model, bags)
        loss.backward()
        assert all(torch.isfinite(gradient).all() for gradient in gradients(model))

    def test_state_round_trip(self) -> None:
        model, bags = self.model(), PackedBags.pack(make_bags())
        other = self.model()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(1.0)
        assert not torch.equal(other(bags).bag_logits, model(bags).bag_logits)
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(bags).bag_logits, model(bags).bag_logits)

    def test_same_seed_same_run(self) -> None:
        """Three steps with what is drawn coming from the handed-in generator, whatever the global one did
        before."""
        ends = []
        for noise in (1, 2):
            torch.manual_seed(noise)
            model = self.build().train()
            model.generator = torch.Generator().manual_seed(7)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
            for _ in range(3):
                optimizer.zero_grad()
                total_loss(model, PackedBags.pack(make_bags())).backward()
                optimizer.step()
            ends.append([parameter.detach().clone() for parameter in model.parameters()])
        for a, b in zip(*ends, strict=True):
            assert torch.equal(a, b)

    def test_probabilities_sum_to_one(self) -> None:
        for n_outputs in self.outputs:
            model = self.model(n_outputs)
            probabilities = model.probabilities(model(PackedBags.pack(make_bags())).bag_logits)
            assert probabilities.shape == (3, max(n_outputs, 2))
            torch.testing.assert_close(probabilities.sum(1), torch.ones(3))

    def test_it_learns_a_separable_problem(self) -> None:
        """Positive bags hold one instance far out: fifty steps must halve the loss, seen without dropout
        or noise."""
        model = self.build()
        bags = []
        for i, bag in enumerate(make_bags((8,) * 12)):
            features = bag.features.clone()
            features[0, 0] += 6.0 * (i % 2)
            bags.append(Bag(bag.slide_id, features, i % 2))
        packed = PackedBags.pack(bags)

        def bag_term() -> float:
            model.eval()
            return float(model.loss(model(packed), packed.labels, detection_loss(model))["bag"].detach())

        before = bag_term()
        model.generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(50):
            model.train()
            optimizer.zero_grad()
            total_loss(model, packed).backward()
            optimizer.step()
        assert bag_term() < 0.5 * before

    def test_bad_sizes_are_refused(self) -> None:
        from wsi_mil.errors import ModelError

        with pytest.raises(ModelError, match="n_outputs"):
            build_aggregator(self.name, DIM, 0, 0, self.settings)
