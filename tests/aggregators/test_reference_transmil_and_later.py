"""Forward, losses and gradients against the published code of each method, for whatever seeds and bags the
files hold."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.aggregators.reference import DTYPES, Reference, linear, total
from wsi_mil.aggregators.methods.acmil import ACMIL
from wsi_mil.aggregators.methods.causal_mil import CausalMIL
from wsi_mil.aggregators.methods.dtfd import DTFD
from wsi_mil.aggregators.methods.loss_attention import LossAttention
from wsi_mil.aggregators.methods.transmil import TransMIL
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.testing.aggregators import detection_loss

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])


def test_transmil_equals_its_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    """The corrected Nystrom attention (0.0.14), which is the intended one, also where bags need padding."""
    ref = Reference(reference_folder, "transmil", dtype)
    names = {
        "class_token": "cls_token",
        **linear(
            {
                "embed": "_fc1.0",
                "classifier": "_fc2",
                "norms.0": "layer1.norm",
                "norms.1": "layer2.norm",
                "norms.2": "norm",
                "position.0": "pos_layer.proj",
                "position.1": "pos_layer.proj1",
                "position.2": "pos_layer.proj2",
                "layers.0.to_out.0": "layer1.attn.to_out.0",
                "layers.1.to_out.0": "layer2.attn.to_out.0",
            }
        ),
        **linear(
            {
                f"layers.{i}.{part}": f"layer{i + 1}.attn.{part}"
                for i in (0, 1)
                for part in ("to_qkv", "res_conv")
            },
            bias=False,
        ),
    }
    hidden, dim = ref.shape("_fc1.0.weight")
    model = TransMIL(
        dim, ref.shape("_fc2.weight")[0], hidden, ref.shape("layer1.attn.res_conv.weight")[0], dropout=0
    )
    ref.load(model, names)
    for bag in ref.bags:
        x = ref.x(bag)
        output = model(ref.pack(x))
        ref.close(output.extras["class_embedding"], f"bag{bag}/cls_embedding")
        ref.close(output.bag_logits, f"bag{bag}/logits")
        ref.close(model.probabilities(output.bag_logits), f"bag{bag}/prob")
        tokens = torch.cat([model.class_token, ref.tensor(f"bag{bag}/tokens_in")[None, 1:]], 1)
        after, attention = model.attend(0, tokens)
        ref.close(after, f"bag{bag}/after_layer1")
        ref.close(attention, f"bag{bag}/layer1_cls_attention")
        _, attention = model.attend(1, ref.tensor(f"bag{bag}/after_ppeg")[None])
        ref.close(attention, f"bag{bag}/layer2_cls_attention")
        for k in ref.labels_of(bag):
            ref.close(
                model.loss(output, torch.tensor([k]), detection_loss(model))["bag"], f"bag{bag}/y{k}/loss"
            )
        loss = model.loss(output, torch.tensor([ref.label(bag)]), detection_loss(model))["bag"]
        ref.gradients(model, names, x, f"bag{bag}", loss)
    assert ref.compared > 40


VARIANTS = {
    "MaxS_k1": ("max", 1),
    "MaxS_k2": ("max", 2),
    "MaxMinS_k1": ("max_min", 1),
    "MaxMinS_k2": ("max_min", 2),
    "AFS": ("afs", 1),
}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_dtfd_equals_its_reference(reference_folder: Path, dtype: torch.dtype, variant: str) -> None:
    """The file's split is handed in; tier 2's gradient is compared with tier 1 attached, as in the file."""
    ref = Reference(reference_folder, "dtfd", dtype)
    names = {
        "embed.weight": "dimReduction.fc1.weight",
        **linear(
            {
                "attention.V": "attention.attention_V.0",
                "attention.U": "attention.attention_U.0",
                "attention.w": "attention.attention_weights",
                "classifier": "classifier.fc",
                "attention2.V": "attCls.attention.attention_V.0",
                "attention2.U": "attCls.attention.attention_U.0",
                "attention2.w": "attCls.attention.attention_weights",
                "classifier2": "attCls.classifier.fc",
            }
        ),
    }
    hidden, dim = ref.shape("dimReduction.fc1.weight")
    attention, classes = ref.shape("attention.attention_V.0.weight")[0], ref.shape("classifier.fc.weight")[0]
    distill, k = VARIANTS[variant]
    model = DTFD(dim, classes, hidden, attention, 4, distill, k, detach=False)  # type: ignore[arg-type]
    ref.load(model, names)
    for bag in ref.bags:
        x = ref.x(bag)
        output = model(ref.pack(x), orders=[ref.tensor(f"bag{bag}/perm")])
        extras = output.extras
        ref.close(extras["attention_raw"], f"bag{bag}/attention_raw")
        ref.close(extras["sub_logits"], f"bag{bag}/sub_logits")
        ref.close(extras["probability"], f"bag{bag}/instance_prob")
        block = f"bag{bag}/{variant}"
        ref.close(extras["distilled"], f"{block}/distilled")
        ref.close(output.bag_logits, f"{block}/logits")
        ref.close(model.probabilities(output.bag_logits), f"{block}/prob")
        for label in (0, 1):
            terms = model.loss(output, torch.tensor([label]), detection_loss(model))
            ref.close(terms["tier1"], f"{block}/y{label}/loss_tier1")
            ref.close(terms["bag"], f"{block}/y{label}/loss_tier2")
        terms = model.loss(output, torch.tensor([ref.label(bag)]), detection_loss(model))
        for term, tier in (("tier1", 1), ("bag", 2)):
            x.grad = None
            terms[term].backward(retain_graph=True)
            assert x.grad is not None
            ref.close(x.grad, f"{block}/grad_x_tier{tier}", gradient=True)
        check_dtfd_parameters(ref, model, names, block, terms)
    assert ref.compared > 40


def check_dtfd_parameters(
    ref: Reference, model: DTFD, names: dict[str, str], block: str, terms: dict[str, Tensor]
) -> None:
    """Either tier's parameters have the gradient of their own tier's loss: what the published optimisers step
    with."""
    second = {
        ours: theirs for ours, theirs in names.items() if ours.startswith(("attention2", "classifier2"))
    }
    first = {ours: theirs for ours, theirs in names.items() if ours not in second}
    ref.gradients(model, first, None, block, terms["tier1"], ("attention.w.bias",))
    ref.gradients(model, second, None, block, terms["bag"], ("attention2.w.bias",))


def test_loss_attention_equals_its_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    ref = Reference(reference_folder, "loss_attention", dtype)
    names = linear({"embed.0": "feature_extractor_part2.fc", "classifier": "linear"})
    # a layer that the code declares and does not use
    unused = {key: ref.stored.pop(key) for key in list(ref.stored) if key.startswith("param/att_layer")}
    assert unused
    hidden, dim = ref.shape("feature_extractor_part2.fc.weight")
    for l2, lam, block, value in (
        ("mean", 2.0, "as_coded", "total_as_coded"),
        ("sum", 2.0, "as_in_paper_lambda2", "total_as_in_paper_lambda2"),
        ("sum", 0.1, "", "total_as_in_paper_lambda0.1"),
    ):
        model = LossAttention(dim, ref.shape("linear.weight")[0], (hidden,), lam, l2)  # type: ignore[arg-type]
        ref.load(model, names)
        for bag in ref.bags:
            x = ref.x(bag)
            output = model(ref.pack(x))
            ref.close(output.extras["h"], f"bag{bag}/H")
            ref.close(output.extras["instance_logits"], f"bag{bag}/instance_logits")
            ref.close(output.instance_scores, f"bag{bag}/attention")
            ref.close(output.bag_logits, f"bag{bag}/logits")
            for k in ref.labels_of(bag):
                terms = model.loss(output, torch.tensor([k]), detection_loss(model))
                ref.close(terms["bag"], f"bag{bag}/y{k}/L1")
                name = "L2_mean_as_coded" if l2 == "mean" else "L2_sum_as_in_paper"
                ref.close(terms["instance"] / lam, f"bag{bag}/y{k}/{name}")
                ref.close(total(terms), f"bag{bag}/y{k}/{value}")
            if block:
                loss = total(model.loss(output, torch.tensor([ref.label(bag)]), detection_loss(model)))
                ref.gradients(model, names, x, f"bag{bag}/{block}", loss)
    assert ref.compared > 60


def test_causal_mil_equals_its_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    """Bag by bag, and a batch against the `intended` keys: the published code picks the wrong rows there."""
    ref = Reference(reference_folder, "causalmil", dtype)
    names = linear(
        {
            "decoder.0": "decoder_x.decoder.1",
            "decoder.2": "decoder_x.decoder.3",
            "encoder.0": "encoder_x.encoder.0",
            "encoder.2": "encoder_x.encoder.2",
            "mu": "encoder_xnou.mean",
            "logvar": "encoder_xnou.logvar",
            "classifier": "auxiliary_y_fixed.fc_ins",
            "prior_mu": "deep_set_mean",
            "prior_logvar": "deep_set_logvar",
        }
    )
    hidden, dim = ref.shape("encoder_x.encoder.0.weight")
    latent, code = ref.shape("encoder_xnou.mean.weight")
    model = CausalMIL(dim, 1, latent, hidden, code, decoder_output="sigmoid")
    ref.load(model, names)
    for bag in ref.bags:
        x = ref.x(bag)
        model.eval()
        plain = model(ref.pack(x))
        ref.close(plain.extras["mu"], f"bag{bag}/mu")
        ref.close(plain.extras["logvar"], f"bag{bag}/logvar")
        ref.close(plain.instance_scores, f"bag{bag}/instance_logits")
        ref.close(plain.bag_logits, f"bag{bag}/bag_logit")
        ref.close(model.decoder(plain.extras["mu"]), f"bag{bag}/reconstruction_of_mu")
        model.train()
        output = model(ref.pack(x), noise=ref.tensor(f"bag{bag}/eps"))
        ref.close(output.instance_scores, f"bag{bag}/sampled_instance_logits")
        ref.close(output.extras["prior_mu"], f"bag{bag}/prior_mu")
        ref.close(output.extras["prior_logvar"], f"bag{bag}/prior_logvar")
        for k in (0, 1):
            check_causal_terms(
                ref, model.loss(output, torch.tensor([k]), detection_loss(model)), f"bag{bag}/y{k}"
            )
        if f"bag{bag}/grad_x" in ref:
            loss = total(model.loss(output, torch.tensor([ref.label(bag)]), detection_loss(model)))
            ref.gradients(model, names, x, f"bag{bag}", loss)
    order = [int(bag) for bag in ref.stored["batch/order"]]
    batch = PackedBags.pack([Bag(str(bag), ref.x(bag), ref.label(bag)) for bag in order])
    noise = torch.cat([ref.tensor(f"bag{bag}/eps") for bag in order])
    terms = model.loss(model(batch, noise=noise), batch.labels, detection_loss(model))
    check_causal_terms(ref, terms, "batch/intended")
    as_coded = float(ref.stored["batch/as_coded/loss_kl_f64"])
    assert not np.isclose(float(terms["kl"].detach()), as_coded, rtol=1e-3)
    assert ref.compared > 60


def check_causal_terms(ref: Reference, terms: dict[str, Tensor], block: str) -> None:
    ref.close(terms["bag"] / 1000, f"{block}/loss_bce")
    ref.close(terms["reconstruction"], f"{block}/loss_recon")
    ref.close(terms["kl"], f"{block}/loss_kl")
    ref.close(total(terms), f"{block}/loss_total")


def test_acmil_equals_its_reference(reference_folder: Path, dtype: torch.dtype) -> None:
    ref = Reference(reference_folder, "acmil", dtype)
    branches = ref.shape("attention.attention_weights.weight")[0]
    names = {
        "embed.weight": "dimreduction.fc1.weight",
        **linear(
            {
                "attention.V": "attention.attention_V.0",
                "attention.U": "attention.attention_U.0",
                "attention.w": "attention.attention_weights",
                "classifier": "Slide_classifier.fc",
                **{f"branch_classifiers.{k}": f"classifier.{k}.fc" for k in range(branches)},
            }
        ),
    }
    hidden, dim = ref.shape("dimreduction.fc1.weight")
    classes, attention = (
        ref.shape("Slide_classifier.fc.weight")[0],
        ref.shape("attention.attention_V.0.weight")[0],
    )
    model = ACMIL(dim, classes, hidden, attention, branches)
    ref.load(model, names)
    for bag in ref.bags:
        for mode in ("eval", "train"):
            model.train(mode == "train")
            x, block = ref.x(bag), f"bag{bag}/{mode}"
            output = model(ref.pack(x), draws=[ref.tensor(f"bag{bag}/rand")])
            extras = output.extras
            ref.close(extras["attention_raw"].T, f"{block}/attention_raw_after_mask")
            ref.close(extras["branch_attention"].T, f"{block}/attention")
            ref.close(extras["branch_logits"], f"{block}/sub_logits")
            ref.close(output.instance_scores, f"{block}/bag_attention")
            ref.close(output.bag_logits, f"{block}/logits")
            for k in (0, 1):
                terms = model.loss(output, torch.tensor([k]), detection_loss(model))
                ref.close(terms["branches"], f"{block}/y{k}/loss_sub")
                ref.close(terms["bag"], f"{block}/y{k}/loss_slide")
                ref.close(terms["diversity"], f"{block}/loss_diversity")
                ref.close(total(terms), f"{block}/y{k}/loss_total")
            loss = total(model.loss(output, torch.tensor([ref.label(bag)]), detection_loss(model)))
            ref.gradients(model, names, x, block, loss, ("attention.w.bias",))
    assert ref.compared > 60
