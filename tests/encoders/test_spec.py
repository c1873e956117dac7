"""Settings of encoders: names and digests on disk stay as they are; each setting is in its record."""

import json

import pytest
from pydantic import ValidationError

from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.encoders.spec import Augmentation, Computation, EncoderModel

RESNET = {"name": "timm:resnet10t", "weights": "random", "input_px": 64}
TEXTURE = {"name": "texture"}

KEPT = [
    # settings, key in the store, digest of the settings, digest of the encoder's identity
    ({}, "texture", "961c633d2dc67235", "c655e6913aec8e3b"),
    (TEXTURE | {"input_px": 32}, "texture", "2b6b8c55f8781565", "657d6e84ce034c48"),
    (
        TEXTURE | {"seed": 5, "batch_size": 7, "max_unreadable": 0.5},
        "texture",
        "7b75c71dca4f15f1",
        "c655e6913aec8e3b",
    ),
    (
        TEXTURE | {"view": 3, "seed": 4, "view_stain_strength": 0.2},
        "texture.view3",
        "0447589b7a2056c8",
        "427aa7a1221f411e",
    ),
    (
        TEXTURE | {"alias": "mine", "stain": "reinhard", "view": 2},
        "mine.view2",
        "4adcf160f16c8196",
        "307bba85a0b8eab3",
    ),
    (RESNET, "timm.resnet10t", "75f9cde6d7fc7384", "f9eedc92a7da405a"),
    (RESNET | {"batch_size": 3}, "timm.resnet10t", "867af2cc0c2a9693", "f9eedc92a7da405a"),
    (RESNET | {"precision": "bf16"}, "timm.resnet10t", "a943ea4964f056fe", "d4a1f7223bbe8d9c"),
    (RESNET | {"seed": 1}, "timm.resnet10t", "88f090a69616b2ce", "7b45fcc69dc83d42"),
    (
        {"name": "torchvision:squeezenet1_1", "weights": "random", "input_px": 64, "seed": 3},
        "torchvision.squeezenet1_1",
        "22601190a9f0afd4",
        "ac018c1f78ad0c92",
    ),
    (
        {"name": "resnet50-clam", "weights": "random", "seed": 4, "batch_size": 2},
        "resnet50-clam",
        "46621b64126db3d3",
        "a9321615c799ef38",
    ),
]
"""Written by the version before the settings were split into three records."""


@pytest.mark.parametrize(("values", "key", "spec_digest", "encoder_digest"), KEPT)
def test_stores_and_models_keep_their_digests(
    values: dict[str, object], key: str, spec_digest: str, encoder_digest: str
) -> None:
    spec = EncoderSpec(**values).settled  # type: ignore[arg-type]
    assert spec.key == key
    assert spec.digest() == spec_digest
    assert build_encoder(spec, "cpu").digest == encoder_digest


def test_openvino_keeps_its_digest() -> None:
    pytest.importorskip("openvino")
    spec = EncoderSpec(**RESNET, backend="openvino", batch_size=2).settled  # type: ignore[arg-type]
    assert (spec.digest(), build_encoder(spec, "cpu").digest) == ("de07bd372abe61a8", "8c419ac001f7667b")


def test_a_pretrained_encoder_keeps_the_digest_of_its_settings() -> None:
    spec = EncoderSpec(name="timm:resnet18", stain="macenko", views=2).settled
    assert (spec.key, spec.digest()) == ("timm.resnet18.macenko", "6d8f7e9572a205de")


def test_views_keep_their_digests() -> None:
    views = EncoderSpec(name="texture", views=2, seed=4).augmented
    assert [(view.key, view.digest(), build_encoder(view, "cpu").digest) for view in views] == [
        ("texture.view1", "98bdccb28e9c2294", "290be74e71e7ca30"),
        ("texture.view2", "ba60bf7aa1127a9c", "270eadd4d2e6daed"),
    ]


def test_model_json_holds_the_same_block() -> None:
    """The text that model.json of a trained model holds under `encoder`, key by key and in this order."""
    assert json.dumps(EncoderSpec().model_dump(mode="json")) == (
        '{"name": "texture", "weights": "pretrained", "input_px": null, "precision": "fp32", '
        '"backend": "torch", "compile": false, "batch_size": 64, "max_unreadable": 0.05, "any_mpp": false, '
        '"revision": null, "stain": "none", "views": 0, "view_stain_strength": 0.3, "view": 0, "seed": 0, '
        '"alias": null}'
    )


CHANGED = {
    "name": "timm:resnet18",
    "weights": "random",
    "input_px": 32,
    "precision": "bf16",
    "backend": "openvino",
    "compile": True,
    "batch_size": 8,
    "max_unreadable": 0.5,
    "any_mpp": True,
    "revision": "v1",
    "stain": "macenko",
    "views": 2,
    "view_stain_strength": 0.9,
    "view": 1,
    "seed": 3,
    "alias": "mine",
    "layers": ("1",),
    "layer_pooling": "class",
    "layer_projection": 8,
}
MODEL = {"name", "weights", "input_px", "revision", "stain", "seed"}
MODEL |= {"layers", "layer_pooling", "layer_projection"}
COMPUTATION = {"precision", "backend", "compile", "batch_size"}
AUGMENTATION = {"view", "view_stain_strength", "seed"}
NEITHER = {"max_unreadable", "any_mpp", "views", "alias"}
"""They change no value of a feature: when to give up, what to accept, how many views, and a name."""


@pytest.mark.parametrize("key", sorted(EncoderSpec.model_fields))
def test_each_key_of_the_configuration_is_in_its_records(key: str) -> None:
    plain = EncoderSpec(view=2)
    other = plain.model_copy(update={key: CHANGED[key]})
    assert (other.model != plain.model) == (key in MODEL)
    assert (other.computation("cpu") != plain.computation("cpu")) == (key in COMPUTATION)
    assert (other.augmentation != plain.augmentation) == (key in AUGMENTATION)
    assert key in MODEL | COMPUTATION | AUGMENTATION | NEITHER


def test_plain_features_do_not_depend_on_how_views_are_drawn() -> None:
    assert EncoderSpec(view_stain_strength=0.9, seed=7).augmentation == Augmentation()


@pytest.mark.parametrize("name", sorted(COMPUTATION - {"precision", "backend"}))
def test_a_changed_computation_keeps_the_identity(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Except for precision and backend, which were always part of it, since they change values visibly."""
    monkeypatch.setattr("torch.compile", lambda module: module)
    spec = EncoderSpec(**RESNET)  # type: ignore[arg-type]
    other = spec.model_copy(update={name: CHANGED[name]})
    assert build_encoder(other, "cpu").digest == build_encoder(spec, "cpu").digest


@pytest.mark.parametrize(
    ("record", "values"),
    [
        (EncoderModel, {"input_px": 8}),
        (EncoderModel, {"stain": "mackenzo"}),
        (Computation, {"batch_size": 0}),
        (Computation, {"precision": "fp8"}),
        (Augmentation, {"stain_strength": 1.5}),
        (Augmentation, {"view": 17}),
        (Augmentation, {"views": 2}),
    ],
)
def test_records_refuse_impossible_values(record: type, values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        record(**values)
