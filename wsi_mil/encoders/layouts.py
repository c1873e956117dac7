"""The names of tensors in published checkpoints, translated to the names of our networks.

A network of a published encoder has two parts: `trunk`, a network of timm, and, for some, `head`
(`wsi_mil.encoders.heads`). Each layout is one function from the tensors of a file to those of both parts.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from wsi_mil.encoders.published.record import Layout
from wsi_mil.errors import EncoderError

Tensors = Mapping[str, Tensor]
Rules = Mapping[str, str]
"""Pattern of a published name -> our name. A name that no pattern fits is left out."""

TRANSFORMERS: Rules = {
    r"^embeddings\.cls_token$": "cls_token",
    r"^embeddings\.register_tokens$": "reg_token",
    r"^embeddings\.position_embeddings$": "pos_embed",
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"^encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.": r"blocks.\1.attn.\2.",
    r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"blocks.\1.attn.proj.",
    r"^encoder\.layer\.(\d+)\.intermediate\.dense\.": r"blocks.\1.mlp.fc1.",
    r"^encoder\.layer\.(\d+)\.output\.dense\.": r"blocks.\1.mlp.fc2.",
    r"^encoder\.layer\.(\d+)\.mlp\.weights_in\.": r"blocks.\1.mlp.fc1.",
    r"^encoder\.layer\.(\d+)\.mlp\.weights_out\.": r"blocks.\1.mlp.fc2.",
    r"^encoder\.layer\.(\d+)\.mlp\.": r"blocks.\1.mlp.",
    r"^encoder\.layer\.(\d+)\.(?:layernorm_before|norm1)\.": r"blocks.\1.norm1.",
    r"^encoder\.layer\.(\d+)\.(?:layernorm_after|norm2)\.": r"blocks.\1.norm2.",
    r"^encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$": r"blocks.\1.ls\2.gamma",
    r"^layernorm\.": "norm.",
}
"""ViT, Dinov2 and Dinov2WithRegisters of transformers 4."""
CLIP: Rules = {
    r"^vision_model\.embeddings\.class_embedding$": "cls_token",
    r"^vision_model\.embeddings\.position_embedding\.weight$": "pos_embed",
    r"^vision_model\.embeddings\.patch_embedding\.": "patch_embed.proj.",
    r"^vision_model\.pre_layrnorm\.": "norm_pre.",
    r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.(q|k|v)_proj\.": r"blocks.\1.attn.\2.",
    r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.": r"blocks.\1.attn.proj.",
    r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.": r"blocks.\1.norm\2.",
    r"^vision_model\.encoder\.layers\.(\d+)\.mlp\.": r"blocks.\1.mlp.",
    r"^vision_model\.post_layernorm\.": "norm.",
    r"^visual_projection\.": "head.",
}
"""The image encoder of transformers' CLIP."""
BEIT3: Rules = {
    r"^beit3\.vision_embed\.cls_token$": "cls_token",
    r"^beit3\.vision_embed\.proj\.": "patch_embed.proj.",
    r"^beit3\.encoder\.embed_positions\.A\.weight$": "pos_embed",
    r"^beit3\.encoder\.layers\.(\d+)\.self_attn\.(q|k|v)_proj\.A\.": r"blocks.\1.attn.\2.",
    r"^beit3\.encoder\.layers\.(\d+)\.self_attn\.inner_attn_ln\.A\.": r"blocks.\1.attn.norm.",
    r"^beit3\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.A\.": r"blocks.\1.attn.proj.",
    r"^beit3\.encoder\.layers\.(\d+)\.self_attn_layer_norm\.A\.": r"blocks.\1.norm1.",
    r"^beit3\.encoder\.layers\.(\d+)\.final_layer_norm\.A\.": r"blocks.\1.norm2.",
    r"^beit3\.encoder\.layers\.(\d+)\.ffn\.A\.ffn_layernorm\.": r"blocks.\1.mlp.norm.",
    r"^beit3\.encoder\.layers\.(\d+)\.ffn\.A\.": r"blocks.\1.mlp.",
    r"^beit3\.encoder\.layer_norm\.A\.": "norm.",
}
"""The image branch (A) of BEiT-3; B is the branch of texts."""
FACEBOOK: Rules = {
    r"^(cls_token|pos_embed)$": r"\1",
    r"^register_tokens$": "reg_token",
    r"^(patch_embed\.proj|norm)\.": r"\1.",
    r"^blocks\.(?:\d+\.)?(\d+)\.mlp\.w12\.": r"blocks.\1.mlp.fc1.",
    r"^blocks\.(?:\d+\.)?(\d+)\.mlp\.w3\.": r"blocks.\1.mlp.fc2.",
    r"^blocks\.(?:\d+\.)?(\d+)\.(norm1|attn|ls1|norm2|mlp|ls2)\.": r"blocks.\1.\2.",
}
"""DINOv2's own code, also with blocks in chunks (`blocks.CHUNK.BLOCK`)."""
DINOV3: Rules = {
    r"^(?:storage_tokens|reg_token)$": "reg_token",
    r"^cls_token$": "cls_token",
    r"^(patch_embed\.proj|norm)\.": r"\1.",
    r"^blocks\.(\d+)\.(?:ls([12])\.gamma|gamma_([12]))$": r"blocks.\1.gamma_\2\3",
    r"^blocks\.(\d+)\.mlp\.(?:w1|fc1_g)\.": r"blocks.\1.mlp.fc1_g.",
    r"^blocks\.(\d+)\.mlp\.(?:w2|fc1_x)\.": r"blocks.\1.mlp.fc1_x.",
    r"^blocks\.(\d+)\.mlp\.(?:w3|fc2)\.": r"blocks.\1.mlp.fc2.",
    r"^blocks\.(\d+)\.(norm1|attn|norm2|mlp)\.": r"blocks.\1.\2.",
}
"""DINOv3's own code, and timm's names for it."""
CONCH: Rules = {
    r"^(?:visual\.)?trunk\.": "trunk.",
    r"^(?:visual\.)?attn_pool_contrast\.": "head.",
    r"^(?:visual\.)?ln_contrast\.": "head.ln_out.",
}
KEEP: Rules = {
    r"^visual\.(blocks\.\d+\.ls[12])\.weight$": r"trunk.\1.gamma",
    r"^visual\.": "trunk.",
    r"^visual_head\.": "head.layers.",
}
"""transformers renamed the layer scales, which timm calls gamma, when it wrote the published file."""
PREFIX = re.compile(r"^(?:vit|dinov2|model|backbone)\.")
QUERY = re.compile(r"^(blocks\.\d+\.attn)\.(query|q)\.(weight|bias)$")


def network_tensors(tensors: Tensors, layout: Layout) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names of the network: `trunk.*`, and `head.*` if it has
    one.

    Tensors that the network does not have (text encoders, classifiers) are left out, except in timm's layout.
    Raises EncoderError for a checkpoint that has a query without its key and value, or what cannot be
    translated.
    """
    found = LAYOUTS[layout](tensors)
    return {key if key.startswith(("trunk.", "head.")) else f"trunk.{key}": found[key] for key in found}


def _renamed(tensors: Tensors, rules: Rules) -> dict[str, Tensor]:
    """Return the tensors whose names a rule fits, under their new names; the first rule that fits counts."""
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        for pattern, name in rules.items():
            renamed, count = re.subn(pattern, name, key)
            if count:
                found[renamed] = value
                break
    return found


def _from_vit(tensors: Tensors) -> dict[str, Tensor]:
    plain = {PREFIX.sub("", key): value for key, value in tensors.items()}
    return _registers_after_class(_joined(_renamed(plain, {**TRANSFORMERS, **FACEBOOK})))


def _from_clip(tensors: Tensors) -> dict[str, Tensor]:
    found = _joined(_renamed(tensors, CLIP))
    for key in found.keys() & {"cls_token", "pos_embed"}:
        found[key] = found[key].reshape(1, -1, found[key].shape[-1])  # (D,) or (N, D) -> (1, N, D)
    return found


def _from_beit3(tensors: Tensors) -> dict[str, Tensor]:
    found = _joined(_renamed(tensors, BEIT3))
    if "pos_embed" in found:
        found["pos_embed"] = found["pos_embed"][None, 2:]  # positions are counted from 2, as in fairseq
    return found


def _from_dinov3(tensors: Tensors) -> dict[str, Tensor]:
    """The biases of query and value are 0 in the published files, that of the key changes nothing: the
    network has none."""
    for key in tensors:
        if re.search(r"^blocks\.\d+\.attn\.qkv\.bias$", key):
            query, _, value = tensors[key].chunk(3)
            if bool(query.any() or value.any()):
                raise EncoderError(f"the checkpoint's {key} is not 0: this network has no such bias")
    return _renamed({key: value for key, value in tensors.items() if ".qkv.bias" not in key}, DINOV3)


def _joined(tensors: Tensors) -> dict[str, Tensor]:
    """Join query, key and value, which timm keeps in one tensor. Raises EncoderError if one is missing."""
    found = {
        key: value
        for key, value in tensors.items()
        if not re.search(r"\.attn\.(?:query|key|value|q|k|v)\.", key)
    }
    for key in tensors:
        if match := QUERY.match(key):
            names = ("query", "key", "value") if match[2] == "query" else ("q", "k", "v")
            parts = [tensors.get(f"{match[1]}.{name}.{match[3]}") for name in names]
            if not all(part is not None for part in parts):
                raise EncoderError(f"the checkpoint has the query of {match[1]} without its key and value")
            found[f"{match[1]}.qkv.{match[3]}"] = torch.cat([part for part in parts if part is not None])
    return found


def _registers_after_class(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """With registers, timm has position embeddings of patches alone; the class token holds its own."""
    if "reg_token" not in tensors or not {"cls_token", "pos_embed"} <= tensors.keys():
        return tensors
    positions = tensors["pos_embed"]
    return {**tensors, "cls_token": tensors["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}


LAYOUTS: Mapping[Layout, Callable[[Tensors], dict[str, Tensor]]] = {
    "timm": dict,
    "vit": _from_vit,
    "dinov3": _from_dinov3,
    "clip": _from_clip,
    "beit3": _from_beit3,
    "conch": partial(_renamed, rules=CONCH),
    "keep": partial(_renamed, rules=KEEP),
}
